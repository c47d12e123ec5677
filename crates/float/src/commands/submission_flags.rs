//! The flags of a submission, made from the table in [`mooring_api::submission`].

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use mooring_api::submission::{FIELDS, Field, InvalidSubmission, Section, Submission};
use serde_json::Value;

use crate::error::invalid;

/// The fields that `float modify` changes as well.
const MODIFIABLE: [&str; 7] =
    ["name", "vmPolicy", "migratePolicy", "timeLimit", "idle", "awakeLimit", "snapshotInterval"];

/// The values of flags, by field; parsed by [`Self::submission`], which words errors like OpCenter.
#[derive(Debug, Clone)]
pub(crate) struct Given(Vec<(&'static Field, Vec<String>)>);

impl Given {
    /// Parses the values.
    pub(crate) fn submission(self) -> anyhow::Result<Submission> {
        let values = self.0.into_iter().map(|(field, values)| {
            let is_switch = field.flag().is_some_and(|flag| flag.value.is_none());
            let value = match values.as_slice() {
                _ if is_switch => Value::Bool(true),
                [value] if !field.is_list => Value::from(value.as_str()),
                values => Value::from(values),
            };
            (field.key.to_owned(), value)
        });
        Submission::read(values).map_err(|error| refused(&error, error.to_string()))
    }

    fn from_matches(matches: &ArgMatches, fields: impl Iterator<Item = &'static Field>) -> Self {
        let given = fields.filter_map(|field| {
            let flag = field.flag()?;
            match flag.value {
                None => matches.get_flag(flag.long).then(|| (field, Vec::new())),
                Some(_) => Some((field, matches.get_many::<String>(flag.long)?.cloned().collect())),
            }
        });
        Self(given.collect())
    }
}

/// The refusal of values that are no submission.
pub(crate) fn refused(error: &InvalidSubmission, message: String) -> anyhow::Error {
    let hint = error.hint().unwrap_or_else(|| "`float submit --help` shows how to write each value".to_owned());
    invalid(message, hint)
}

fn add_flags(
    command: Command,
    fields: impl Iterator<Item = &'static Field>,
    help: impl Fn(&Field) -> String,
) -> Command {
    fields.fold(command, |command, field| {
        let Some(flag) = field.flag() else { return command };
        let arg = Arg::new(flag.long).long(flag.long).help(help(field));
        let arg = match flag.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        let arg = match field.section {
            Section::Job => arg,
            Section::Automatic => arg.help_heading("Automatic behaviour"),
        };
        command.arg(match flag.value {
            None => arg.action(ArgAction::SetTrue),
            Some(value) if field.is_list => arg.value_name(value).action(ArgAction::Append),
            Some(value) => arg.value_name(value),
        })
    })
}

/// The flags of `float submit`.
#[derive(Debug, Clone)]
pub(crate) struct SubmitFlags(pub(crate) Given);

impl Args for SubmitFlags {
    fn augment_args(command: Command) -> Command {
        add_flags(command, FIELDS.iter(), Field::help)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SubmitFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Given::from_matches(matches, FIELDS.iter())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags that `float modify` shares with `float submit`.
#[derive(Debug, Clone)]
pub(crate) struct ModifyFlags(pub(crate) Given);

impl ModifyFlags {
    fn fields() -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(|field| MODIFIABLE.contains(&field.key))
    }
}

impl Args for ModifyFlags {
    fn augment_args(command: Command) -> Command {
        // Nothing has a default: what is not given stays.
        let without_default = |field: &Field| field.help().split(" [default").next().unwrap_or_default().to_owned();
        add_flags(command, Self::fields(), without_default)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ModifyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Given::from_matches(matches, Self::fields())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
