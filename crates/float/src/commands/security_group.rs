//! `float securityGroup`.

use anyhow::Result;
use clap::{Args, Subcommand};
use mooring_api::Client;
use mooring_api::view::{SecurityGroupCreateRequest, SecurityGroupModifyRequest};

use crate::parse;
use crate::printer::Printer;

/// The arguments of `float securityGroup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float securityGroup create -n campus --rule tcp:10000-10500:172.31.0.0/16
  float gateway create -n lab --securityGroup campus
  float securityGroup addRule -g campus --port 10000-10500 --source fd00::/8

A security group is a set of inbound rules for gateways and for published ports of jobs. A connection
is refused unless a rule of one of the groups allows it. Without a group, gateways and jobs have
`default`: all ports, from loopback and private addresses.")]
pub(crate) struct SecurityGroupArgs {
    #[command(subcommand)]
    command: SecurityGroupCommand,
}

#[derive(Debug, Subcommand)]
enum SecurityGroupCommand {
    /// create a security group
    Create(CreateArgs),
    /// list security groups
    #[command(visible_alias = "ls")]
    #[command(after_help = "\
Example:
  float securityGroup list -F table")]
    List,
    /// show a security group, its rules and its users
    #[command(after_help = "\
Example:
  float securityGroup show -g campus")]
    Show(Named),
    /// add rules; they apply at once to all gateways and jobs with the group
    #[command(name = "addRule")]
    #[command(after_help = "\
Examples:
  float securityGroup addRule -g campus --rule tcp:8787:172.31.0.0/16
  float securityGroup addRule -g campus --port 10000-10500 --source 172.31.0.0/16")]
    AddRule(RuleArgs),
    /// remove rules; closes connections that no other rule allows
    #[command(name = "rmRule")]
    #[command(after_help = "\
Examples:
  float securityGroup rmRule -g campus --rule tcp:8787:172.31.0.0/16
  float securityGroup rmRule -g campus --port 10000-10500 --source 172.31.0.0/16")]
    RmRule(RuleArgs),
    /// replace a rule by another in one step
    #[command(name = "replaceRule")]
    #[command(after_help = "\
Example:
  float securityGroup replaceRule -g campus --rule tcp:8787:172.31.0.0/16 --by tcp:8787:10.0.0.0/8")]
    ReplaceRule(ReplaceArgs),
    /// delete a security group that is not in use
    #[command(after_help = "\
Example:
  float securityGroup delete -g campus")]
    Delete(Named),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  float securityGroup create -n campus --description 'the campus' --rule tcp:8787:172.31.0.0/16
  float securityGroup create -n everybody --rule 'tcp:*:0.0.0.0/0' --rule 'tcp:*:::/0'")]
struct CreateArgs {
    /// group name: 1 to 63 letters, digits, `.`, `_` or `-`
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// rule `tcp:<ports>:<source>`: a port, a range like 10000-10500 or `*`, and an address or CIDR
    /// block; repeatable
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
}

#[derive(Debug, Args)]
struct Named {
    /// security group, by id or name
    #[arg(short, long, value_name = "GROUP")]
    group: String,
}

#[derive(Debug, Args)]
struct RuleArgs {
    /// security group, by id or name
    #[arg(short, long, value_name = "GROUP")]
    group: String,
    /// rule `tcp:<ports>:<source>`; repeatable
    #[arg(long, value_name = "RULE", required_unless_present = "port")]
    rule: Vec<String>,
    /// port or port range, instead of `--rule`
    #[arg(long, value_name = "PORT[-PORT]", requires = "source", conflicts_with = "rule")]
    port: Option<String>,
    /// source address or CIDR block
    #[arg(long, value_name = "CIDR", requires = "port")]
    source: Option<String>,
    /// protocol
    #[arg(long, value_name = "PROTOCOL", requires = "port", default_value = "tcp")]
    protocol: String,
}

#[derive(Debug, Args)]
struct ReplaceArgs {
    /// security group, by id or name
    #[arg(short, long, value_name = "GROUP")]
    group: String,
    /// rule `tcp:<ports>:<source>` of the group
    #[arg(long, value_name = "RULE")]
    rule: String,
    /// rule that takes its place
    #[arg(long, value_name = "RULE")]
    by: String,
}

/// Runs a subcommand of `float securityGroup`.
pub(crate) async fn security_group(args: SecurityGroupArgs, client: &Client, printer: &Printer) -> Result<()> {
    match args.command {
        SecurityGroupCommand::Create(args) => printer.object(&client.security_group_create(&args.request()).await?),
        SecurityGroupCommand::List => printer.list(&client.security_group_list().await?),
        SecurityGroupCommand::Show(Named { group }) => {
            printer.object(&client.security_group_get(&parse::security_group(&group)?).await?)
        }
        SecurityGroupCommand::AddRule(args) => {
            let request = SecurityGroupModifyRequest { add_rules: args.rules(), ..Default::default() };
            printer.object(&client.security_group_modify(&parse::security_group(&args.group)?, &request).await?)
        }
        SecurityGroupCommand::RmRule(args) => {
            let request = SecurityGroupModifyRequest { remove_rules: args.rules(), ..Default::default() };
            printer.object(&client.security_group_modify(&parse::security_group(&args.group)?, &request).await?)
        }
        SecurityGroupCommand::ReplaceRule(ReplaceArgs { group, rule, by }) => {
            let request = SecurityGroupModifyRequest { add_rules: vec![by], remove_rules: vec![rule] };
            printer.object(&client.security_group_modify(&parse::security_group(&group)?, &request).await?)
        }
        SecurityGroupCommand::Delete(Named { group }) => {
            client.security_group_delete(&parse::security_group(&group)?).await?;
            printer.note(&format!("security group {group} deleted"));
            Ok(())
        }
    }
}

impl CreateArgs {
    fn request(self) -> SecurityGroupCreateRequest {
        SecurityGroupCreateRequest {
            name: self.name,
            description: self.description.unwrap_or_default(),
            rules: self.rule,
        }
    }
}

impl RuleArgs {
    /// The rules as text; OpCenter parses them.
    fn rules(&self) -> Vec<String> {
        match (&self.port, &self.source) {
            (Some(port), Some(source)) => vec![format!("{}:{port}:{source}", self.protocol)],
            _ => self.rule.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn rules(line: &str) -> Option<Vec<String>> {
        match Cli::try_parse_from(line.split(' ')).ok()?.command {
            Command::SecurityGroup(SecurityGroupArgs { command: SecurityGroupCommand::AddRule(args) }) => {
                Some(args.rules())
            }
            _ => None,
        }
    }

    #[test]
    fn rule_flags_and_parts_agree() {
        let add = "float securityGroup addRule -g campus";
        for parts in [
            "--rule tcp:80-90:fd00::/8",
            "--port 80-90 --source fd00::/8",
            "--port 80-90 --source fd00::/8 --protocol tcp",
        ] {
            assert_eq!(rules(&format!("{add} {parts}")).unwrap(), ["tcp:80-90:fd00::/8"], "{parts}");
        }
        assert_eq!(rules(&format!("{add} --rule a --rule b")).unwrap(), ["a", "b"]);
        for half in ["", " --port 80", " --source ::1", " --rule tcp:80:::1 --port 80 --source ::1"] {
            assert!(rules(&format!("{add}{half}")).is_none(), "{half}");
        }
    }
}
