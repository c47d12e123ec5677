//! A short run of the fuzzer's invariants.

#[expect(unreachable_pub, reason = "it is the library of the fuzz targets")]
#[path = "../../../fuzz/src/lib.rs"]
mod invariants;

use proptest::prelude::*;

proptest! {
    #[test]
    fn first_bytes_of_noise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        invariants::first_bytes(&bytes);
    }

    #[test]
    fn first_bytes_like_http(text in "(GET|POST|PRI|OPTIONS) [/*a-z]{0,20} HTTP/[12]\\.[01]\r\n.{0,20}") {
        invariants::first_bytes(text.as_bytes());
    }

    #[test]
    fn headers_of_any_kind(lines in prop::collection::vec((0_u8..14, "[ -~]{0,30}"), 0..20)) {
        let bytes: Vec<u8> = lines.iter().flat_map(|(name, value)| [&[*name], value.as_bytes(), b"\n"].concat()).collect();
        invariants::headers(&bytes);
    }

    #[test]
    fn lines_are_kept(lines in prop::collection::vec((0_u8..9, prop_oneof!["(x-a|x-b|etag|close)(, ?(accept|location))?", "[ -~]{0,30}"]), 0..20)) {
        let bytes: Vec<u8> = lines.iter().flat_map(|(name, value)| [&[*name], value.as_bytes(), b"\n"].concat()).collect();
        invariants::kept(&bytes);
    }

    #[test]
    fn lines_of_noise_are_kept(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        invariants::kept(&bytes);
    }

    #[test]
    fn rule_of_any_text(text in "(tcp|TCP|udp)?:?[0-9*-]{0,11}:[0-9a-f.:/]{0,30}") {
        invariants::rule(text.as_bytes());
    }

    #[test]
    fn requests_in_pieces(length in any::<u8>(), text in "((GET|POST) [/a-z]{0,9} HTTP/1\\.[01]\r?\n((Content-Length: ?[0-9]{0,3}|Transfer-Encoding: ?chunked|Upgrade: x|a:b)\r?\n){0,4}\r?\n[0-9a-f\r\n]{0,30}){0,4}") {
        invariants::requests(&[&[length], text.as_bytes()].concat());
    }

    #[test]
    fn requests_of_noise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        invariants::requests(&bytes);
    }

    #[test]
    fn names_of_cookies(bytes in prop::collection::vec(any::<u8>(), 0..60), name in "(__Host-|__Secure-|__m)?[!-~]{0,30}") {
        invariants::cookies(&bytes);
        invariants::cookies(name.as_bytes());
    }
}
