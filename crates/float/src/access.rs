//! The OpCenter and the session of a command.
//!
//! | value | first of |
//! |---|---|
//! | address | `-a`, the session's, `$FLOAT_ADDR`, 127.0.0.1:8443 |
//! | port | that of the address; the session's of the same host; the first that answers |
//! | certificates | `--ca`, those known of the address, those of the first contact |
//! | token | `-O`; a login with `-u` for this command; the session's, if its address is the same; `$FLOAT_TOKEN`, if the address is `$FLOAT_ADDR` |
//! | password | `-p`, `$MOORING_PASSWORD`, the terminal |
//!
//! Inside a job, `$FLOAT_ADDR`, `$FLOAT_CA` and `$FLOAT_TOKEN` are set: `float` needs no login
//! there.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use mooring_api::client::Address;
use mooring_api::view::LoginRequest;
use mooring_api::{Client, ErrorCode};
use mooring_tls::Trust;

use crate::error::{self, LOGIN_HINT, Local, UNREACHABLE_HINT};
use crate::global::Global;
use crate::known::KnownOpCenters;
use crate::session::{Session, SessionFile};

/// The address without a flag or a session.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8443";
/// The environment variable with the password.
const PASSWORD_VARIABLE: &str = "MOORING_PASSWORD";
/// The environment variable with the address that a job was given.
const ADDRESS_VARIABLE: &str = "FLOAT_ADDR";
/// The environment variable with the token that a job was given.
const TOKEN_VARIABLE: &str = "FLOAT_TOKEN";
/// The time limit of the logout of an inline session.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);

/// An authenticated client; an inline session ends with the command.
pub(crate) struct Access {
    client: Client,
    inline: bool,
}

impl Access {
    /// Finds the address and the token, and logs in when `-u` or `-p` is given.
    pub(crate) async fn open(global: &Global) -> Result<Self> {
        let session = session(global)?;
        let client = client(global, session.as_ref()).await?;
        if let Some(token) = &global.token {
            return Ok(Self { client: client.with_token(token), inline: false });
        }
        if global.username.is_some() || global.password.is_some() {
            let answer = client.login(&credentials(global)?).await?;
            return Ok(Self { client: client.with_token(answer.token), inline: true });
        }
        // A token is sent only to the OpCenter that issued it.
        let issued_there = |issuer: &String| same_address(issuer, client.address());
        let of_session = session.filter(|session| issued_there(&session.address)).map(|session| session.token);
        let of_environment = || variable(ADDRESS_VARIABLE).filter(issued_there).and_then(|_| variable(TOKEN_VARIABLE));
        let token = of_session.or_else(of_environment).ok_or_else(|| {
            error::refused(ErrorCode::Unauthenticated, format!("no session at {}", client.address()), LOGIN_HINT)
        })?;
        Ok(Self { client: client.with_token(token), inline: false })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends the session of an inline login. If that fails, the session ends when it has been idle
    /// for long enough.
    pub(crate) async fn close(self) {
        if self.inline {
            let _ = tokio::time::timeout(LOGOUT_TIMEOUT, self.client.logout()).await;
        }
    }
}

/// A client without a token.
pub(crate) async fn stranger(global: &Global) -> Result<Client> {
    client(global, session(global).ok().flatten().as_ref()).await
}

async fn client(global: &Global, session: Option<&Session>) -> Result<Client> {
    let candidates = Address::candidates(&address(global, session))?;
    if let [only] = candidates.as_slice() {
        return at(global, only).await;
    }
    let mut tried = Vec::new();
    for candidate in &candidates {
        match answering(global, candidate).await {
            Ok(client) => return Ok(client),
            Err(error) => tried.push(error::message(&error)),
        }
    }
    Err(Local::new(tried.join("; "), UNREACHABLE_HINT).into())
}

/// A client for an address.
async fn at(global: &Global, address: &Address) -> Result<Client> {
    let trust = match global.trust()? {
        _ if !address.is_tls() => Trust::System,
        Some(given) => given,
        None => KnownOpCenters::of_user()?.trust(address).await?,
    };
    Ok(Client::connect(address.url(), trust)?)
}

/// A client for an address where an OpCenter answers.
async fn answering(global: &Global, address: &Address) -> Result<Client> {
    let client = at(global, address).await?;
    client.version_get().await?;
    Ok(client)
}

/// Remembers the certificates of `--ca` for later commands.
pub(crate) fn remember(global: &Global, client: &Client) -> Result<()> {
    let address = Address::parse(client.address())?;
    match global.trust()? {
        Some(given) if address.is_tls() => KnownOpCenters::of_user()?.remember(&address, &given),
        _ => Ok(()),
    }
}

/// User name and password; asks for those not given.
pub(crate) fn credentials(global: &Global) -> Result<LoginRequest> {
    let username = match &global.username {
        Some(username) => username.clone(),
        None => ask_username()?,
    };
    let password = password(global, &username)?;
    Ok(LoginRequest { username, password })
}

/// The password of a user; asks for it if not given.
pub(crate) fn password(global: &Global, username: &str) -> Result<String> {
    match (&global.password, std::env::var(PASSWORD_VARIABLE)) {
        (Some(password), _) => Ok(password.clone()),
        (None, Ok(password)) => Ok(password),
        (None, Err(_)) => ask_password(username),
    }
}

/// The address as it is stored and compared: without the scheme that it has by default.
pub(crate) fn short_address(address: &str) -> &str {
    let address = address.trim_end_matches('/');
    let Some((_, short)) = address.split_once("://") else { return address };
    match (Address::parse(short), Address::parse(address)) {
        (Ok(by_default), Ok(given)) if by_default == given => short,
        _ => address,
    }
}

/// The stored session; not read when the flags make it unnecessary.
fn session(global: &Global) -> Result<Option<Session>> {
    let given = global.address.is_some() && (global.token.is_some() || global.username.is_some());
    if given || std::env::var_os("HOME").is_none() {
        return Ok(None);
    }
    SessionFile::of_user()?.load()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn address(global: &Global, session: Option<&Session>) -> String {
    let kept = session.map(|session| &session.address);
    match (&global.address, kept) {
        // The port was found by the login.
        (Some(given), Some(kept)) if is_port_of(given, kept) => kept.clone(),
        (Some(given), _) => given.clone(),
        (None, Some(kept)) => kept.clone(),
        (None, None) => variable(ADDRESS_VARIABLE).unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()),
    }
}

/// Returns whether an address is one at which another one, without a port, may be found.
fn is_port_of(given: &str, kept: &str) -> bool {
    let kept = Address::parse(kept);
    let candidates = Address::candidates(given).unwrap_or_default();
    candidates.len() > 1 && kept.is_ok_and(|kept| candidates.contains(&kept))
}

fn same_address(one: &str, other: &str) -> bool {
    short_address(one) == short_address(other)
}

fn ask_username() -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Local::new("no user name", "give one with `-u`").into());
    }
    // A missing stderr is ignored: the answer is then read without a prompt.
    let _ = write!(io::stderr().lock(), "user name: ");
    let mut name = String::new();
    io::stdin().read_line(&mut name).context("can't read the user name")?;
    match name.trim() {
        "" => Err(Local::new("no user name", "give one with `-u`").into()),
        name => Ok(name.to_owned()),
    }
}

fn ask_password(username: &str) -> Result<String> {
    rpassword::prompt_password(format!("password of {username}: ")).map_err(|_| {
        Local::new("no password, and no terminal to ask for it", "give it with `-p` or in $MOORING_PASSWORD").into()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn global(line: &str) -> Global {
        Cli::try_parse_from(line.split(' ')).unwrap().global
    }

    fn kept() -> Session {
        Session { address: "10.0.0.5:8443".into(), username: "admin".into(), token: "t".into() }
    }

    #[test]
    fn address_precedence() {
        assert_eq!(address(&global("float -a x:1 list"), Some(&kept())), "x:1");
        assert_eq!(address(&global("float list"), Some(&kept())), "10.0.0.5:8443");
        assert_eq!(address(&global("float list"), None), DEFAULT_ADDRESS);
        assert_eq!(address(&global("float -a 10.0.0.5 list"), Some(&kept())), "10.0.0.5:8443");
        assert_eq!(address(&global("float -a 10.0.0.6 list"), Some(&kept())), "10.0.0.6");
        assert_eq!(address(&global("float -a 10.0.0.5:443 list"), Some(&kept())), "10.0.0.5:443");
    }

    #[test]
    fn addresses_ignore_default_scheme() {
        assert!(same_address("10.0.0.5:8443", "https://10.0.0.5:8443/"));
        assert!(same_address("127.0.0.1:8443", "http://127.0.0.1:8443/"));
        assert!(!same_address("127.0.0.1:8443", "https://127.0.0.1:8443"));
        assert!(!same_address("10.0.0.5:8443", "10.0.0.6:8443"));
    }
}
