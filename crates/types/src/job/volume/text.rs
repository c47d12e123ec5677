//! The written form of volumes: `[options]source:mount[:ro]`.
//!
//! | written | source |
//! |---|---|
//! | `/data/set:/data:ro` | a directory that every host which may run the job has |
//! | `[size=10]:/scratch` | a fresh volume of 10 GB, which lives and migrates with the job |
//! | `vol-1234:/data` | a volume by its id |
//! | `nfs://10.0.0.4/export:/mnt` | an NFS export |
//! | `[mode=rw,endpoint=https://…]s3://bucket/prefix:/mnt` | an S3 bucket |
//! | `[opts="-o ro"]jfs://10.0.0.5:6868/1:/mnt` | a JuiceFS file system |

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::{SIZE_GB_MAX, Volume, VolumeMode, VolumeSource};
use crate::mounts::Scheme;

/// A text that names no volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid volume `{text}`: {problem}")]
pub struct InvalidVolume {
    text: String,
    problem: &'static str,
}

impl FromStr for Volume {
    type Err = InvalidVolume;

    fn from_str(text: &str) -> Result<Self, InvalidVolume> {
        // Options may be secret: an error shows only the part after the brackets.
        let (options, rest) = match text.strip_prefix('[') {
            Some(inner) => match closing(inner) {
                Some(end) => (&inner[..end], &inner[end + 1..]),
                None => return Err(refused("[…", "its `[` is not closed")),
            },
            None => ("", text),
        };
        read(options, rest).map_err(|problem| refused(rest, problem))
    }
}

fn refused(text: &str, problem: &'static str) -> InvalidVolume {
    InvalidVolume { text: text.chars().take(200).collect(), problem }
}

/// Returns the position of the closing bracket outside of quotes.
fn closing(inner: &str) -> Option<usize> {
    let mut quoted = false;
    inner.char_indices().find_map(|(index, char)| match char {
        '"' => {
            quoted = !quoted;
            None
        }
        ']' if !quoted => Some(index),
        _ => None,
    })
}

fn read(options: &str, rest: &str) -> Result<Volume, &'static str> {
    let mut options = read_options(options)?;
    let (rest, suffix) = match rest.strip_suffix(":ro").or_else(|| rest.strip_suffix(":rw")) {
        Some(shorter) => (shorter, Some(&rest[rest.len() - 2..])),
        None => (rest, None),
    };
    let (source, mount) = rest.rsplit_once(':').ok_or("write source:mount")?;
    let mount = PathBuf::from(mount);
    if !is_plain(&mount) || mount == Path::new("/") {
        return Err("the mount has to be an absolute path other than `/`, without `..`");
    }
    let mode = match (options.remove("mode"), suffix) {
        (Some(_), Some(_)) => return Err("its mode is given twice"),
        (None, None) => VolumeMode::ReadWrite,
        (Some(mode), None) if mode == "rw" || mode == "ro" => VolumeMode::of(&mode),
        (Some(_), None) => return Err("its mode is `rw` or `ro`"),
        (None, Some(mode)) => VolumeMode::of(mode),
    };
    let source = match options.remove("size") {
        Some(size) => {
            let size_gb = size.parse::<u32>().ok().filter(|size| (1..=SIZE_GB_MAX).contains(size));
            if !source.is_empty() {
                return Err("a size is for a fresh volume, `[size=10]:/mount`");
            }
            VolumeSource::Fresh { size_gb: size_gb.ok_or("its size is a number of GB from 1 to 65536")? }
        }
        None => read_source(source)?,
    };
    match source {
        VolumeSource::HostPath(_) | VolumeSource::Fresh { .. } | VolumeSource::Existing(_) if !options.is_empty() => {
            Err("the options of such a volume are `mode` and `size`")
        }
        source => Ok(Volume { source, mount, mode, options }),
    }
}

fn read_source(source: &str) -> Result<VolumeSource, &'static str> {
    if let Some((scheme, location)) = source.split_once("://") {
        let found = Scheme::ALL.into_iter().find(|candidate| candidate.name() == scheme);
        let scheme = found.ok_or("its address starts with nfs://, s3:// or jfs://")?;
        let plain = !location.is_empty() && !location.contains(char::is_whitespace);
        return if plain {
            Ok(VolumeSource::Remote { scheme, location: location.to_owned() })
        } else {
            Err("its address has nothing after `://`")
        };
    }
    let path = PathBuf::from(source);
    match source {
        "" => Err("write the source before the `:`, or `[size=10]:/mount` for a fresh volume"),
        _ if is_plain(&path) => Ok(VolumeSource::HostPath(path)),
        id if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            Ok(VolumeSource::Existing(id.to_owned()))
        }
        _ => Err("the source is an absolute path without `..`, a volume's id, or nfs://, s3:// or jfs://"),
    }
}

/// Says whether a path is absolute, without `..`, and survives the written form.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.to_string_lossy().contains([':', '\0', '\n'])
}

fn read_options(text: &str) -> Result<BTreeMap<String, String>, &'static str> {
    let mut options = BTreeMap::new();
    let mut quoted = false;
    let parts = text.split(|char: char| {
        quoted ^= char == '"';
        char == ',' && !quoted
    });
    for part in parts.filter(|_| !text.trim().is_empty()) {
        let (key, value) = part.split_once('=').ok_or("an option is no key=value")?;
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        if key.trim().is_empty() || bare.contains('"') {
            return Err("an option is no key=value");
        }
        if options.insert(key.trim().to_owned(), bare.to_owned()).is_some() {
            return Err("an option is given twice");
        }
    }
    Ok(options)
}

impl VolumeMode {
    fn of(text: &str) -> Self {
        if text == "ro" { Self::ReadOnly } else { Self::ReadWrite }
    }
}

impl TryFrom<String> for Volume {
    type Error = InvalidVolume;

    fn try_from(text: String) -> Result<Self, InvalidVolume> {
        text.parse()
    }
}

impl From<Volume> for String {
    fn from(volume: Volume) -> Self {
        volume.to_string()
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options: Vec<String> = Vec::new();
        if let VolumeSource::Fresh { size_gb } = self.source {
            options.push(format!("size={size_gb}"));
        }
        for (key, value) in &self.options {
            let plain = !value.contains([',', ']', ' ', '[']) && *value == *value.trim();
            options.push(if plain { format!("{key}={value}") } else { format!("{key}=\"{value}\"") });
        }
        if !options.is_empty() {
            write!(f, "[{}]", options.join(","))?;
        }
        match &self.source {
            VolumeSource::HostPath(path) => write!(f, "{}", path.display())?,
            VolumeSource::Fresh { .. } => {}
            VolumeSource::Existing(id) => f.write_str(id)?,
            VolumeSource::Remote { scheme, location } => write!(f, "{}://{location}", scheme.name())?,
        }
        write!(f, ":{}", self.mount.display())?;
        match self.mode {
            VolumeMode::ReadWrite => Ok(()),
            VolumeMode::ReadOnly => f.write_str(":ro"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Volume {
        text.parse().unwrap()
    }

    #[test]
    fn written_forms_are_parsed() {
        let volume = read("/data/set:/data:ro");
        assert_eq!(volume.source, VolumeSource::HostPath("/data/set".into()));
        assert_eq!((volume.mount, volume.mode), (PathBuf::from("/data"), VolumeMode::ReadOnly));
        assert_eq!(read("[size=10]:/data").source, VolumeSource::Fresh { size_gb: 10 });
        assert_eq!(read("vol-0af:/data").source, VolumeSource::Existing("vol-0af".into()));
        let volume = read("nfs://10.0.0.4/export:/mnt");
        assert_eq!(volume.source, VolumeSource::Remote { scheme: Scheme::Nfs, location: "10.0.0.4/export".into() });
        let volume = read("[mode=ro,endpoint=https://s3.local:9000,accessKey=AK,secret=SK]s3://bucket/pre:/mnt");
        assert_eq!((volume.mode, volume.options["endpoint"].as_str()), (VolumeMode::ReadOnly, "https://s3.local:9000"));
        let shown = volume.redacted().to_string();
        assert!(!shown.contains("SK") && !shown.contains("AK") && shown.contains("s3.local"), "{shown}");
        let volume = read("[opts=\"-o cache-size=10,ro ]\"]jfs://10.0.0.5:6868/1:/mnt");
        assert_eq!(volume.options["opts"], "-o cache-size=10,ro ]");
        assert_eq!(volume.source, VolumeSource::Remote { scheme: Scheme::Jfs, location: "10.0.0.5:6868/1".into() });
    }

    #[test]
    fn malformed_volume_is_refused_without_its_secrets() {
        for bad in [
            "",
            "/data",
            "/data:",
            ":/data",
            "/data:relative",
            "/data:/",
            "/data/../x:/data",
            "/data:/a/../b",
            "[size=0]:/data",
            "[size=10]/x:/data",
            "[size=10:/data",
            "[mode=x]/a:/b",
            "[mode=ro]/a:/b:ro",
            "[a=1,a=2]s3://b:/m",
            "[a]s3://b:/m",
            "[foo=1]/a:/b",
            "ftp://x/y:/m",
            "s3://:/m",
        ] {
            assert!(bad.parse::<Volume>().is_err(), "{bad}");
        }
        let error = "[secret=SK]ftp://x:/m".parse::<Volume>().unwrap_err().to_string();
        assert_eq!(error, "invalid volume `ftp://x:/m`: its address starts with nfs://, s3:// or jfs://");
    }

    fn volume() -> impl Strategy<Value = Volume> {
        let path = || "(/[a-zA-Z0-9._ -]{0,2}[a-zA-Z0-9]){1,3}".prop_map(PathBuf::from);
        let remote = (0_usize..3, "[a-z0-9.:/-]{1,20}")
            .prop_map(|(scheme, location)| VolumeSource::Remote { scheme: Scheme::ALL[scheme], location });
        let local = prop_oneof![
            path().prop_map(VolumeSource::HostPath),
            (1..=SIZE_GB_MAX).prop_map(|size_gb| VolumeSource::Fresh { size_gb }),
            "[a-zA-Z0-9-]{1,20}".prop_map(VolumeSource::Existing),
        ];
        let options = prop::collection::btree_map("[a-z]{3,8}", "[ -!#-~]{0,12}", 0..3);
        let options = options.prop_map(|mut options| {
            options.remove("mode");
            options.remove("size");
            options
        });
        let sources = prop_oneof![local.prop_map(|source| (source, false)), remote.prop_map(|source| (source, true))];
        (sources, path(), any::<bool>(), options).prop_map(|((source, has_options), mount, read_only, options)| {
            Volume {
                source,
                mount,
                mode: if read_only { VolumeMode::ReadOnly } else { VolumeMode::ReadWrite },
                options: if has_options { options } else { BTreeMap::new() },
            }
        })
    }

    proptest! {
        #[test]
        fn volume_reads_back(volume in volume()) {
            prop_assert_eq!(volume.to_string().parse::<Volume>(), Ok(volume));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}|\\[[a-z=,\"]{0,20}\\][a-z/:]{0,20}") {
            let _ = text.parse::<Volume>();
        }
    }
}
