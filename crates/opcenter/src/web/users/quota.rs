//! The fields of a quota, and its place in lists.

use mooring_api::view::{Change, HoldingView, QuotaChange, QuotaView};

use crate::web::form::Form;

/// The keys of the fields, with their labels.
pub(super) const FIELDS: [(&str, &str); 4] =
    [("jobs", "Jobs"), ("cores", "Cores"), ("memory", "Memory in GB"), ("gateways", "Gateways")];

/// Writes a quota into a form, and again as what it was when the form was opened; a limit that does
/// not exist is empty.
pub(super) fn write(form: &mut Form, quota: &QuotaView) {
    let count = |limit: Option<u32>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    let memory = quota.mem_gb.map(|limit| limit.to_string()).unwrap_or_default();
    for (key, limit) in [
        ("jobs", count(quota.jobs)),
        ("cores", count(quota.cores)),
        ("memory", memory),
        ("gateways", count(quota.gateways)),
    ] {
        form.set(&format!("before.{key}"), limit.clone());
        form.set(key, limit);
    }
    form.set("before.quota", "shown");
}

/// Reads the changes of a quota from a form. A field that nobody has touched undoes nothing that
/// was changed since the form was opened.
pub(super) fn read(form: &mut Form, present: &QuotaView) -> QuotaChange {
    let is_touched = |form: &Form, key: &str| {
        form.text("before.quota").is_empty() || form.text(&format!("before.{key}")) != form.text(key)
    };
    fn change<T: PartialEq>(is_touched: bool, typed: Option<T>, present: Option<T>) -> Change<T> {
        match typed {
            _ if !is_touched => Change::Keep,
            typed if typed == present => Change::Keep,
            None => Change::Clear,
            Some(limit) => Change::To(limit),
        }
    }
    QuotaChange {
        jobs: change(is_touched(form, "jobs"), form.parse("jobs"), present.jobs),
        cores: change(is_touched(form, "cores"), form.parse("cores"), present.cores),
        mem_gb: change(is_touched(form, "memory"), form.parse("memory"), present.mem_gb),
        gateways: change(is_touched(form, "gateways"), form.parse("gateways"), present.gateways),
    }
}

/// Returns what is used of each limit, in words. A use without a limit is told where there is some.
pub(crate) fn lines(quota: &QuotaView, used: &HoldingView) -> Vec<String> {
    let line = |used: f64, limit: Option<f64>, what: &str| match limit {
        Some(limit) => Some(format!("{used} of {limit} {what}")),
        None if used > 0.0 => Some(format!("{used} {what}")),
        None => None,
    };
    let memory = (used.mem_gb * 1000.0).round() / 1000.0;
    [
        line(used.jobs.into(), quota.jobs.map(f64::from), "jobs"),
        line(used.cores.into(), quota.cores.map(f64::from), "cores"),
        line(memory, quota.mem_gb, "GB"),
        line(used.gateways.into(), quota.gateways.map(f64::from), "gateways"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_is_read_back_from_its_fields() {
        let before = QuotaView { jobs: Some(3), mem_gb: Some(0.5), ..QuotaView::default() };
        let mut form = Form::default();
        write(&mut form, &before);
        assert_eq!(read(&mut form, &before), QuotaChange::default());
        form.replace("jobs", "");
        form.replace("cores", "8");
        let change = read(&mut form, &before);
        assert_eq!((change.jobs, change.cores, change.mem_gb), (Change::Clear, Change::To(8), Change::Keep));
        // Somebody else has changed a limit meanwhile.
        let meanwhile = QuotaView { mem_gb: Some(2.0), jobs: Some(5), ..QuotaView::default() };
        let change = read(&mut form, &meanwhile);
        assert_eq!((change.jobs, change.cores, change.mem_gb), (Change::Clear, Change::To(8), Change::Keep));
        form.replace("cores", "many");
        read(&mut form, &before);
        assert!(!form.error("cores").is_empty());
        let used = HoldingView { jobs: 2, cores: 4, mem_gb: 0.1 + 0.2, gateways: 0 };
        assert_eq!(lines(&before, &used), ["2 of 3 jobs", "4 cores", "0.3 of 0.5 GB"]);
    }
}
