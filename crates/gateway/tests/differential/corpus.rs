//! The corpus: requests and answers of all kinds, combined without chance.

/// An exchange: what a client sends, and what the job answers.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: &'static str,
    /// The request's head, to its empty line.
    pub(crate) head: Vec<u8>,
    /// The request's body as it is on the wire.
    pub(crate) body: Vec<u8>,
    /// The client asks before it sends the body.
    pub(crate) asks_first: bool,
    pub(crate) is_old: bool,
    /// The interim answers, and the final one, as they are on the wire.
    pub(crate) answer: Vec<u8>,
    /// The job answers before it reads the body.
    pub(crate) is_early: bool,
    /// The job ends the connection after its answer.
    pub(crate) closes: bool,
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "x'!~"];

const TARGETS: [&[u8]; 22] = [
    b"/",
    b"/a/b;c=1?d=e&f",
    b"/?ids=[\"a\"]",
    b"/?q=<b>",
    b"/`x`",
    b"/<x>",
    b"/?q=\xE9",
    b"/\xC3\xBC/\xE2\x82\xAC",
    b"/a%2Fb%252Fc",
    b"//double//",
    b"/a/../b/./c",
    b"/?q=%",
    b"/?q=%zz",
    b"/@~{}|^\\",
    b"/a#b",
    b"/?a#b?c",
    b"/?",
    b"/*'()!$,",
    b"http://lab.example:81/absolute?x=1",
    b"http://lab.example",
    b"/:colon:",
    b"/a?b=/../c",
];

const HEADERS: [&[u8]; 24] = [
    b"",
    b"Accept: */*\r\nUser-Agent: corpus/1.0\r\n",
    b"X-Latin: \xFCml\xE4ut\r\nX-Utf8: \xC3\x9Cbersicht.html\r\n",
    b"X-Many: 1\r\nx-many: 2\r\nX-MANY: 3\r\n",
    b"Cookie: a=b; c=\"d e\"; \xFC=\xE9\r\n",
    b"X-Empty:\r\nX-Spaces: \t a  b \t \r\n",
    b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n",
    b"Proxy-Connection: keep-alive\r\nTE: trailers, deflate\r\nConnection: TE\r\n",
    b"X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n",
    b"X_Forwarded_For: 203.0.113.9\r\nContent_Length: 7\r\nX-Forwarded-Ssl: on\r\n",
    b"Range: bytes=0-4\r\nIf-Range: \"a\"\r\n",
    b"If-None-Match: \"a\", W/\"b\"\r\nIf-Modified-Since: Sat, 01 Aug 2026 12:00:00 GMT\r\n",
    b"Accept-Encoding: gzip, br;q=0.5\r\nAccept: text/html\r\n",
    b"Authorization: Basic dTpw\r\nOrigin: null\r\nReferer: http://a/\"b\"<c>?\xE9\r\n",
    b"X!#$%&'*+-.^_`|~: token\r\n1: 2\r\n",
    b"Via: 1.1 a\r\nMax-Forwards: 3\r\nCache-Control: no-cache, x=\"\xDC\"\r\n",
    b"Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nDNT: 1\r\n",
    b"Date: not a date\r\nWarning: 299 - \"a\"\r\nPragma: no-cache\r\n",
    b"Upgrade-Insecure-Requests: 1\r\nPriority: u=1, i\r\nEarly-Data: 1\r\n",
    b"Content-Type: text/plain; charset=\"\xFC\"\r\nContent-Disposition: attachment; filename*=UTF-8''%C3%9C\r\n",
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    b"X-Scheme: https\r\nTrue-Client-IP: 1.2.3.4\r\nX-Client-IP: 1.2.3.4\r\n",
    b"X-Tab:\ta\tb\t\r\nX-Colon: a:b: c\r\n",
    b"MANY",
];

const ANSWERS: [&[u8]; 26] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 200 Fine by me\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 \r\nContent-Length: 3\r\n\r\nno\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;name=value\r\nde\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n5\r\nabcde\r\n0\r\nX-Sum: 1\r\nX-Other: \xFC\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: max-age=3\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: W/\"a\"\r\nContent-Length: 12\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\nAccept-Ranges: bytes\r\n\r\nabcde",
    b"HTTP/1.1 302 Found\r\nLocation: /\xFC?\"<a>\r\nContent-Length: 0\r\nSet-Cookie: a=b; Path=/; HttpOnly\r\nSet-Cookie: c=\xE9; Secure\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<!doctype html><p>until the end",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-To-The-End: 1\r\n\r\n\x00\x01\xFF\xFE raw bytes",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <\xFC>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 500 Internal Server Error\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\noops",
    b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=9\r\nClear-Site-Data: \"cookies\", \"cache\"\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nx-lower: a\r\nX-UPPER: b\r\nX-Lower: c\r\nServer-Timing: a;dur=1\r\nServer-Timing: b\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\nContent-Length: 4\r\nDigest: sha-256=a\r\n\r\n\x1F\x8B\x08\x00",
    b"HTTP/1.1 200 OK\r\nContent-Disposition: attachment; filename=\"\xC3\x9C.html\"\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<html>abc",
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"\xFC\"\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 299 \xDCnknown\r\nContent-Length: 0\r\nX-Empty:\r\nX-Spaces:  \t a \t\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nDate: Sat, 01 Aug 2026 12:00:00 GMT\r\nServer: own/1\r\nVia: 1.0 b\r\nAge: 9\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nAlt-Svc: h3=\":1\"\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Security-Policy: default-src 'none'; report-uri /\xFC\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    b"LARGE",
];

/// A body as it is on the wire, with the lines that frame it.
fn bodies() -> Vec<(Vec<u8>, Vec<u8>)> {
    let large = vec![b'x'; 200_000];
    let length = |body: &[u8]| (format!("Content-Length: {}\r\n", body.len()).into_bytes(), body.to_vec());
    let chunked = |wire: &[u8], more: &[u8]| ([b"Transfer-Encoding: chunked\r\n", more].concat(), wire.to_vec());
    vec![
        (Vec::new(), Vec::new()),
        length(b""),
        length(b"a=b&c=d"),
        length(b"\x00\r\n\r\nGET / HTTP/1.1\r\n\xFF"),
        length(&large),
        chunked(b"0\r\n\r\n", b""),
        chunked(b"3\r\nabc\r\n0002\r\nde\r\n0\r\n\r\n", b""),
        chunked(b"3;ext=\"a;b\"\r\nabc\r\n0;last\r\n\r\n", b""),
        chunked(b"A\r\n0123456789\r\n0\r\nX-Sum: 7\r\nX-Name: \xFC\r\n\r\n", b"Trailer: X-Sum\r\n"),
        chunked(&[b"30d40\r\n", &large[..], b"\r\n0\r\n\r\n"].concat(), b""),
    ]
}

/// All exchanges: each part of a request with each answer of another step, so that pairs differ.
pub(crate) fn exchanges() -> Vec<Exchange> {
    let bodies = bodies();
    let mut all = Vec::new();
    for number in 0..600 {
        let method = METHODS[number % METHODS.len()];
        let target = TARGETS[number * 7 % TARGETS.len()];
        let is_old = number % 11 == 5;
        let (framing, body) = match method {
            "GET" | "HEAD" => &bodies[0],
            // HTTP/1.0 has no chunks.
            _ if is_old => &bodies[number % 5],
            _ => &bodies[number * 3 % bodies.len()],
        };
        let headers = many(HEADERS[number * 5 % HEADERS.len()]);
        let answer = large(ANSWERS[number * 11 % ANSWERS.len()]);
        let is_interim = answer.starts_with(b"HTTP/1.1 10");
        // Clients of HTTP/1.0 take no interim answers.
        if is_old && is_interim {
            continue;
        }
        let asks_first = !body.is_empty() && !is_old && number % 4 == 1;
        let is_early = !body.is_empty() && !asks_first && number % 4 == 2 && body.len() < 100_000;
        let version: &[u8] = if is_old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
        let host: &[u8] = if is_old && number % 2 == 0 { b"" } else { b"Host: lab.example:81\r\n" };
        let expect: &[u8] = if asks_first { b"Expect: 100-continue\r\n" } else { b"" };
        let (first, last) = if number % 3 == 0 { (&headers[..], host) } else { (host, &headers[..]) };
        let head = [method.as_bytes(), b" ", target, version, first, framing, expect, last].concat();
        let closes = [&b"HTTP/1.0"[..], b"X-To-The-End"]
            .iter()
            .any(|mark| answer.windows(mark.len()).any(|bytes| bytes == *mark));
        let body = body.clone();
        all.push(Exchange { method, head, body, asks_first, is_old, answer, is_early, closes });
    }
    all
}

/// Hundreds of lines, and one of 40 KiB.
fn many(headers: &[u8]) -> Vec<u8> {
    if headers != b"MANY" {
        return headers.to_vec();
    }
    let lines: String = (0..300).map(|line| format!("X-Line-{}: value {line}\r\n", line % 250)).collect();
    [lines.as_bytes(), b"X-Long: ", &vec![b'y'; 40 << 10], b"\r\n"].concat()
}

fn large(answer: &[u8]) -> Vec<u8> {
    if answer != b"LARGE" {
        return answer.to_vec();
    }
    let lines: String = (0..300).map(|line| format!("Server-Timing: s{line};dur=1\r\n")).collect();
    let body: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let head =
        format!("HTTP/1.1 200 OK\r\n{lines}X-Long: {}\r\nContent-Length: {}\r\n\r\n", "z".repeat(40 << 10), body.len());
    [head.as_bytes(), &body].concat()
}
