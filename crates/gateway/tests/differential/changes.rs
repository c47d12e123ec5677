//! All that a gateway changes of HTTP, for a client that is no browser: the guide's list, as code.
//!
//! Each change is applied to a message that came directly. What a gateway has passed on has to be
//! the outcome, byte for byte.

use super::message::{Framing, Message};

/// A change with the words of the guide that state it.
pub(crate) struct Change {
    pub(crate) stated: &'static str,
    pub(crate) apply: fn(&mut Message, &Client),
}

/// The client of an exchange.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The port that it has asked.
    pub(crate) gateway_port: u16,
    /// True if it speaks HTTP/1.0.
    pub(crate) is_old: bool,
    /// True if it has asked with HEAD.
    pub(crate) asks_for_head: bool,
}

/// Names under which only the gateway speaks.
const OF_GATEWAY: [&str; 6] =
    ["forwarded", "x-real-ip", "x-scheme", "x-original-forwarded-for", "x-client-ip", "true-client-ip"];
/// Names that frame a message, and have no look-alikes.
const FRAMING: [&str; 4] = ["content-length", "content-type", "transfer-encoding", "http2-settings"];

pub(crate) const OF_REQUESTS: [Change; 9] = [
    Change { stated: "The letters of header names are lower-case", apply: lower_case },
    Change { stated: "spaces around a header's value", apply: without_spaces },
    Change { stated: "an absolute target (`GET http://…`) | its path", apply: path_of_absolute_target },
    Change { stated: "a request of HTTP/1.0", apply: of_http11 },
    Change {
        stated: "`Connection` and what it names, `Keep-Alive`, `Proxy-Connection`, `TE`, `Upgrade: h2c`",
        apply: of_one_connection,
    },
    Change { stated: "what a client sends under such names is removed", apply: without_spoofed },
    Change { stated: "Headers whose names differ from those only in punctuation", apply: without_look_alikes },
    Change {
        stated: "`X-Forwarded-For`, `-Proto`, `-Host`, `-Port`, `X-Real-IP`, `Forwarded` | are the gateway's",
        apply: with_client,
    },
    Change { stated: "The chunks of a chunked body are made anew", apply: of_chunks },
];

pub(crate) const OF_ANSWERS: [Change; 10] = [
    Change { stated: "The letters of header names are lower-case", apply: lower_case },
    Change { stated: "spaces around a header's value", apply: without_spaces },
    Change { stated: "`Strict-Transport-Security`; `Clear-Site-Data` for cookies", apply: limited_to_port },
    Change {
        stated: "`Connection` and what it names, `Keep-Alive` | concern one connection",
        apply: of_one_connection,
    },
    Change { stated: "The chunks of a chunked body are made anew", apply: of_chunks },
    Change { stated: "A `Date` is added to an answer that has none", apply: |_, _| {} },
    Change { stated: "the version of HTTP is the client's", apply: of_clients_version },
    Change { stated: "bytes above 0x7F beside a status", apply: without_words_of_other_bytes },
    Change { stated: "`Content-Length` of a 304", apply: without_length_of_304 },
    Change { stated: "`Trailer` of an answer without a body", apply: without_trailer },
];

fn lower_case(message: &mut Message, _: &Client) {
    for (name, _) in message.lines.iter_mut().chain(&mut message.trailers) {
        name.make_ascii_lowercase();
    }
}

fn without_spaces(message: &mut Message, _: &Client) {
    for (_, value) in message.lines.iter_mut().chain(&mut message.trailers) {
        *value = value.trim_matches([' ', '\t']).to_owned();
    }
}

fn path_of_absolute_target(message: &mut Message, _: &Client) {
    let mut words = message.start.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else { return };
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else { return };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, path) = (host.to_owned(), if path.is_empty() { "/" } else { path });
    message.start = format!("{method} {path} {version}");
    message.remove("host");
    message.add("host", &host);
}

fn of_http11(message: &mut Message, client: &Client) {
    if let Some(request) = message.start.strip_suffix("HTTP/1.0") {
        message.start = format!("{request}HTTP/1.1");
        message.remove("expect");
        if message.values("host").is_empty() {
            message.add("host", &format!("127.0.0.1:{}", client.gateway_port));
        }
    }
}

fn of_one_connection(message: &mut Message, _: &Client) {
    let connection = message.values("connection").join(",");
    let named: Vec<String> = connection.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
    let asks = |word: &str| named.iter().any(|other| other == word);
    let upgrade = message.values("upgrade").first().map(|protocol| (*protocol).to_owned());
    let upgrade = upgrade.filter(|protocol| asks("upgrade") && !protocol.to_ascii_lowercase().starts_with("h2"));
    let has_trailers = message.values("te").iter().any(|te| te.split(',').any(|word| word.trim() == "trailers"));
    for name in ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
        message.remove(name);
    }
    for name in named.iter().filter(|name| !name.is_empty()) {
        message.remove(name);
    }
    if let Some(protocol) = upgrade {
        message.add("connection", "upgrade");
        message.add("upgrade", &protocol);
    } else if has_trailers {
        message.add("connection", "te");
        message.add("te", "trailers");
    }
}

fn without_spoofed(message: &mut Message, _: &Client) {
    message.lines.retain(|(name, _)| !name.starts_with("x-forwarded") && !OF_GATEWAY.contains(&name.as_str()));
}

fn without_look_alikes(message: &mut Message, _: &Client) {
    let is_look_alike = |name: &String| {
        let plain: String =
            name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        plain != *name
            && (plain.starts_with("x-forwarded") || OF_GATEWAY.iter().chain(&FRAMING).any(|own| *own == plain))
    };
    message.lines.retain(|(name, _)| !is_look_alike(name));
}

fn with_client(message: &mut Message, client: &Client) {
    let host = message.values("host").first().map(|host| (*host).to_owned()).unwrap_or_default();
    let is_plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let of_host = if is_plain { format!(";host={host}") } else { String::new() };
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", &client.gateway_port.to_string()),
        ("x-forwarded-host", &host),
        ("forwarded", &format!("for=127.0.0.1;proto=http{of_host}")),
    ] {
        message.add(name, value);
    }
}

fn limited_to_port(message: &mut Message, _: &Client) {
    message.remove("strict-transport-security");
    let orders = message.values("clear-site-data").join(",");
    message.remove("clear-site-data");
    let kept = orders.split(',').map(str::trim).filter(|order| !["", "\"cookies\"", "\"*\""].contains(order));
    let kept: Vec<&str> = kept.collect();
    if !kept.is_empty() {
        message.add("clear-site-data", &kept.join(", "));
    }
}

fn of_clients_version(message: &mut Message, client: &Client) {
    if let Some((_, rest)) = message.start.split_once(' ') {
        message.start = format!("HTTP/1.{} {rest}", u8::from(!client.is_old));
    }
}

fn without_words_of_other_bytes(message: &mut Message, _: &Client) {
    if !message.start.is_ascii() {
        let kept: Vec<&str> = message.start.split(' ').take(2).collect();
        message.start = format!("{} ", kept.join(" "));
    }
}

fn without_length_of_304(message: &mut Message, client: &Client) {
    if message.status() == 304 && !client.asks_for_head {
        message.remove("content-length");
    }
}

fn without_trailer(message: &mut Message, _: &Client) {
    if message.framing == Framing::None {
        message.remove("trailer");
    }
}

/// The framing of a content may be another, as the next version of HTTP has it; not its bytes.
fn of_chunks(message: &mut Message, client: &Client) {
    let is_answer = message.start.starts_with("HTTP/");
    if is_answer && client.is_old && message.framing == Framing::Chunks {
        message.framing = Framing::End;
        message.trailers.clear();
        message.remove("trailer");
    } else if is_answer && !client.is_old && message.framing == Framing::End {
        message.framing = Framing::Chunks;
    }
    message.remove("transfer-encoding");
}
