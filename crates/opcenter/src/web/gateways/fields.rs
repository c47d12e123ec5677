//! The fields that a new gateway and a changed one share.

use mooring_store::SecurityGroupRow;
use mooring_types::gateway::Tls;
use mooring_types::size::Size;
use mooring_types::{Name, PortRange, Reference, SecurityGroupId};

use crate::usecase::{gateway, parse, resources};
use crate::view::Views;
use crate::web::form::{Form, Places};

/// The fields at which refusals stand.
pub(crate) const PLACES: &Places = &[
    ("name", "name"),
    ("cpu", "cpu"),
    ("memGB", "mem"),
    ("portRange", "port_range"),
    ("securityGroups", "groups"),
    ("addSecurityGroups", "groups"),
    ("removeSecurityGroups", "groups"),
];

/// The values of a form; `None` where a field is empty or wrong.
pub(crate) struct Fields {
    pub(crate) name: Option<Name>,
    pub(crate) cpu: Option<u32>,
    pub(crate) mem_gb: Option<f64>,
    pub(crate) port_range: Option<PortRange>,
    pub(crate) groups: Vec<Reference<SecurityGroupId>>,
    pub(crate) tls: Tls,
}

impl Fields {
    /// Reads a form, and notes what is wrong beside the fields.
    pub(crate) fn read(form: &mut Form) -> Self {
        let name: Option<Name> = form.require("name");
        Self {
            name: name.and_then(|name| form.checked("name", gateway::gateway_name(name.as_str()))),
            cpu: cores(form),
            mem_gb: memory(form),
            port_range: form.parse("port_range"),
            groups: form.parse_list("groups"),
            tls: if form.is_checked("tls") { Tls::On } else { Tls::Off },
        }
    }
}

/// Reads a number of cores from the field `cpu`.
pub(crate) fn cores(form: &mut Form) -> Option<u32> {
    let text = form.text("cpu").trim().to_owned();
    match parse::<Size<u32>>(&text) {
        _ if text.is_empty() => None,
        Ok(Size { min, max: None }) => form.checked("cpu", resources::cores(min)),
        Ok(_) | Err(_) => {
            form.refuse("cpu", format!("invalid number of cores `{text}`: write a whole number, like `2`"));
            None
        }
    }
}

/// Reads an amount of memory in GB from the field `mem`.
pub(crate) fn memory(form: &mut Form) -> Option<f64> {
    let text = form.text("mem").trim().to_owned();
    match parse::<Size<f64>>(&text) {
        _ if text.is_empty() => None,
        Ok(Size { min, max: None }) => form.checked("mem", resources::memory(min)),
        Ok(_) | Err(_) => {
            form.refuse("mem", format!("invalid memory `{text}`: write GB, like `4` or `0.5`"));
            None
        }
    }
}

/// A security group to choose.
pub(crate) struct GroupChoice {
    pub(crate) id: SecurityGroupId,
    pub(crate) name: String,
    /// Its first rules.
    pub(crate) about: String,
}

impl GroupChoice {
    /// Returns all groups.
    pub(crate) fn all(views: &Views) -> Vec<Self> {
        views.state().security_groups.iter().map(Self::of).collect()
    }

    fn of(group: &SecurityGroupRow) -> Self {
        const SHOWN: usize = 2;
        let rules = &group.spec.rules;
        let shown: Vec<String> = rules.iter().take(SHOWN).map(ToString::to_string).collect();
        let about = match rules.len() {
            0 => "no rule: admits nobody".to_owned(),
            all if all > SHOWN => format!("{} and {} more", shown.join(", "), all - SHOWN),
            _ => shown.join(", "),
        };
        Self { id: group.id.clone(), name: group.spec.name.to_string(), about }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_in_the_words_of_the_command_line() {
        let mut form = Form::with("name", "no blanks");
        for (key, text) in [("cpu", "2:4"), ("mem", "much"), ("port_range", "80:90"), ("groups", "a b")] {
            form.set(key, text);
        }
        let _ = Fields::read(&mut form);
        for (key, part) in [
            ("name", "invalid name `no blanks`"),
            ("cpu", "invalid number of cores `2:4`"),
            ("mem", "invalid memory `much`"),
            ("port_range", "gateway ports lie within 1000 and 65535"),
            ("groups", "`a b`: invalid security group ID"),
        ] {
            assert!(form.error(key).contains(part), "{key}: {}", form.error(key));
        }
        let mut form = Form::with("name", "g-sidlpgb7oi9p48kxycpmn");
        form.set("cpu", "100000");
        let _ = Fields::read(&mut form);
        assert!(form.error("name").contains("is an id") && form.error("cpu").contains("at most 4096"), "{form:?}");
    }

    #[test]
    fn empty_fields_leave_the_defaults() {
        let mut form = Form::with("name", "lab");
        let fields = Fields::read(&mut form);
        assert!(form.is_valid() && fields.name.is_some());
        assert!(fields.cpu.is_none() && fields.mem_gb.is_none() && fields.port_range.is_none());
    }
}
