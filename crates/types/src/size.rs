//! The size that a job requests: `2`, or `2:4` for at least 2 and at most 4.

use std::fmt;
use std::str::FromStr;

/// A least size, and optionally a largest one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size<T> {
    /// The initial size.
    pub min: T,
    /// The largest size that a migration may give; not below `min`.
    pub max: Option<T>,
}

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    #[error("invalid size `{0}`: write a number above 0, or min:max")]
    Form(String),
    /// The range is the wrong way round.
    #[error("the least, {min}, is more than the most, {max}")]
    Order { min: String, max: String },
}

impl InvalidSize {
    /// Returns what is wrong, where `noun` and an example of it are known.
    #[must_use]
    pub fn told(&self, noun: &str) -> String {
        match self {
            Self::Form(text) => format!("invalid {noun} `{text}`"),
            Self::Order { min, max } => format!("invalid {noun} `{min}:{max}`: {self}"),
        }
    }
}

impl<T: FromStr + PartialOrd + Default> FromStr for Size<T> {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        // NaN and infinity are excluded by the digits.
        let read = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            part.parse::<T>().ok().filter(|number| digits && *number > T::default())
        };
        let form = || InvalidSize::Form(text.chars().take(80).collect());
        let Some((least, most)) = text.split_once(':') else {
            return Ok(Self { min: read(text).ok_or_else(form)?, max: None });
        };
        let (Some(min), Some(max)) = (read(least), read(most)) else { return Err(form()) };
        if min <= max {
            return Ok(Self { min, max: Some(max) });
        }
        let short = |text: &str| text.chars().take(40).collect();
        Err(InvalidSize::Order { min: short(least), max: short(most) })
    }
}

impl<T: fmt::Display> fmt::Display for Size<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.max {
            Some(max) => write!(f, "{}:{max}", self.min),
            None => write!(f, "{}", self.min),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_a_number_or_a_range() {
        assert_eq!("2".parse(), Ok(Size { min: 2_u32, max: None }));
        assert_eq!("2:4".parse(), Ok(Size { min: 2_u32, max: Some(4) }));
        assert_eq!("0.5:8".parse(), Ok(Size { min: 0.5_f64, max: Some(8.0) }));
        for bad in ["", "0", "4:2", "2:", ":2", "a", "2:3:4", "-1", "1.5", "+1"] {
            assert!(bad.parse::<Size<u32>>().is_err(), "{bad}");
        }
        let told = |text: &str| text.parse::<Size<u32>>().unwrap_err().told("number of cores");
        assert_eq!(told("4:2"), "invalid number of cores `4:2`: the least, 4, is more than the most, 2");
        assert_eq!(told("two"), "invalid number of cores `two`");
        for bad in ["", "0", "8:4", "nan", "inf", "-1", "4GB", "1e9"] {
            assert!(bad.parse::<Size<f64>>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_size_reads_back(min in 1_u32..1000, more in prop::option::of(0_u32..1000)) {
            let size = Size { min, max: more.map(|more| min + more) };
            prop_assert_eq!(size.to_string().parse::<Size<u32>>(), Ok(size));
            let size = Size { min: f64::from(min) / 8.0, max: more.map(|more| f64::from(min + more) / 8.0) };
            prop_assert_eq!(size.to_string().parse::<Size<f64>>(), Ok(size));
        }
    }
}
