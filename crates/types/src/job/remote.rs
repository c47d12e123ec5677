//! Remote volumes, parsed for the mount.
//!
//! All parts end up among the arguments and options of a mount helper, which splits options at
//! commas. So a part that could be taken for several is refused.

use super::{Volume, VolumeSource};
use crate::mounts::Scheme;

const AWS: &str = "https://s3.amazonaws.com";
const REGION: &str = "us-east-1";

/// A bucket of an S3 service, or the part of it below a prefix.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    /// The prefix without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// The address of the service: `https://…` or `http://…`.
    pub endpoint: String,
    /// `true` if the service is Amazon's, which has one host name per bucket.
    pub is_aws: bool,
    /// The region for which requests are signed.
    pub region: String,
    /// The access key and its secret; absent for a public bucket.
    pub keys: Option<(String, String)>,
    /// The session token that belongs to temporary keys.
    pub token: Option<String>,
}

/// An export of an NFS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The name or address of the server.
    pub server: String,
    /// An absolute path.
    pub path: String,
    /// Further options of mount(8).
    pub options: Vec<String>,
}

impl Bucket {
    /// Parses the bucket of a volume `s3://…`. An error is for users.
    pub fn of(volume: &Volume) -> Result<Self, &'static str> {
        let location = location(volume, Scheme::S3)?;
        let (name, prefix) = location.split_once('/').unwrap_or((location, ""));
        let known = ["endpoint", "region", "accessKey", "secret", "secretKey", "token"];
        if !volume.options.keys().all(|key| known.iter().any(|known| known.eq_ignore_ascii_case(key))) {
            return Err("the options of a bucket are `mode`, `endpoint`, `region`, `accessKey`, `secret` and `token`");
        }
        let option = |name: &str| {
            let mut found =
                volume.options.iter().filter(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty());
            found.next().map(|(_, value)| value.clone())
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        let named = (3..=63).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '.']);
        if !named {
            return Err("a bucket's name has 3 to 63 lower-case letters, digits, `-` and `.`");
        }
        let endpoint = option("endpoint").unwrap_or_else(|| AWS.to_owned()).trim_end_matches('/').to_owned();
        let address = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if address.is_none_or(|address| address.is_empty() || !is_word(address)) {
            return Err("its endpoint is `https://host[:port]` or `http://host[:port]`");
        }
        let region = option("region").unwrap_or_else(|| REGION.to_owned());
        let prefix = prefix.trim_matches('/').to_owned();
        if !is_word(&region) || !is_word(&prefix) || prefix.split('/').any(|part| part == "..") {
            return Err("its prefix and its region have no spaces, commas, colons, quotes and backslashes");
        }
        let keys = match (option("accessKey"), option("secret").or_else(|| option("secretKey"))) {
            (Some(access), Some(secret)) => Some((access, secret)),
            (None, None) => None,
            _ => return Err("it takes `accessKey` and `secret`, or neither for a bucket that everybody may read"),
        };
        let broken = |key: &str| key.contains(|char: char| char.is_control());
        let is_split = |key: &str| key.contains(':') && !key.contains("{secret:");
        if keys.as_ref().is_some_and(|(access, secret)| broken(access) || is_split(access) || broken(secret)) {
            return Err("its keys contain control characters or `:`");
        }
        let token = option("token");
        if token.is_some() && keys.is_none() {
            return Err("its `token` belongs to an `accessKey` and a `secret`");
        }
        if token.as_deref().is_some_and(broken) {
            return Err("its token contains control characters");
        }
        let is_aws = endpoint == AWS;
        Ok(Self { name: name.to_owned(), prefix, endpoint, is_aws, region, keys, token })
    }
}

impl std::fmt::Debug for Bucket {
    /// Omits the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({}/{} at {})", self.name, self.prefix, self.endpoint)
    }
}

impl Export {
    /// Parses the export of a volume `nfs://…`. An error is for users.
    pub fn of(volume: &Volume) -> Result<Self, &'static str> {
        let location = location(volume, Scheme::Nfs)?;
        let (server, path) = location.split_once('/').ok_or("write it as `nfs://server/export`")?;
        let server_is_one = |char: char| char.is_ascii_alphanumeric() || "-._:[]".contains(char);
        if server.is_empty() || server.starts_with('-') || !server.chars().all(server_is_one) {
            return Err("its server is a name or an address");
        }
        if !is_word(path) || path.split('/').any(|part| part == "..") {
            return Err("its path has no spaces, commas, colons, quotes and backslashes");
        }
        if volume.options.keys().any(|key| key != "opts") {
            return Err("the options of an export are `mode` and `opts`");
        }
        let given = volume.options.get("opts").map_or("", String::as_str).trim();
        let given = given.strip_prefix("-o").unwrap_or(given).trim();
        let plain = |option: &str| option.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=:".contains(&byte));
        // The data belongs to a job: it must not grant anything on the host.
        let grants = |option: &str| ["suid", "dev", "remount", "bind", "loop"].contains(&option);
        let options: Vec<String> = given.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        if options.iter().any(|option| !plain(option) || grants(option)) {
            return Err("its `opts` are options of an NFS mount, as in `opts=\"vers=4.2,nconnect=4\"`");
        }
        Ok(Self { server: server.to_owned(), path: format!("/{path}"), options })
    }
}

fn location(volume: &Volume, expected: Scheme) -> Result<&str, &'static str> {
    match &volume.source {
        VolumeSource::Remote { scheme, location } if *scheme == expected => Ok(location),
        _ => Err("it is of another kind"),
    }
}

fn is_word(text: &str) -> bool {
    // A colon is allowed before a port. Elsewhere it would end the name of the source.
    let host = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(text, |(host, _)| host);
    !host.contains(|char: char| char.is_whitespace() || char.is_control() || ",:\"'\\".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(text: &str) -> Volume {
        text.parse().unwrap()
    }

    #[test]
    fn a_bucket_is_read_with_what_is_usual() {
        let bucket = Bucket::of(&volume("s3://data/set/1/:/mnt")).unwrap();
        assert_eq!((bucket.name.as_str(), bucket.prefix.as_str(), bucket.is_aws), ("data", "set/1", true));
        assert_eq!((bucket.endpoint.as_str(), bucket.region.as_str(), bucket.keys), (AWS, REGION, None));
        let given = "[mode=ro,Endpoint=http://10.0.0.1:9000/,accesskey=AK,secretKey=S,region=eu]s3://data:/mnt";
        let bucket = Bucket::of(&volume(given)).unwrap();
        assert_eq!((bucket.endpoint.as_str(), bucket.is_aws), ("http://10.0.0.1:9000", false));
        assert_eq!(bucket.keys, Some(("AK".into(), "S".into())));
        assert!(!format!("{bucket:?} {:?}", volume(given)).contains("AK"));
        let temporary = "[accessKey=AK,secret=S,token=AQoD+/==]s3://data:/mnt";
        assert_eq!(Bucket::of(&volume(temporary)).unwrap().token.as_deref(), Some("AQoD+/=="));
        assert!(!volume(temporary).redacted().to_string().contains("AQoD"));
    }

    #[test]
    fn what_would_be_more_than_a_bucket_is_refused() {
        for bad in [
            "s3://-o:/mnt",
            "s3://ab:/mnt",
            "s3://Data:/mnt",
            "s3://data/../x:/mnt",
            "s3://data/x,allow_root:/mnt",
            "[endpoint=ftp://x]s3://data:/mnt",
            "[endpoint=\"https://x,use_cache=/etc\"]s3://data:/mnt",
            "[region=\"a,b\"]s3://data:/mnt",
            "[accessKey=a]s3://data:/mnt",
            "[accessKey=\"a:b\",secret=x]s3://data:/mnt",
            "[token=a]s3://data:/mnt",
        ] {
            assert!(volume(bad).unsupported().is_some(), "{bad}");
        }
    }

    #[test]
    fn an_export_is_read_and_grants_nothing() {
        let export = Export::of(&volume("[opts=\"-o vers=4.2,nconnect=4\"]nfs://10.0.0.4/exports/a:/mnt")).unwrap();
        assert_eq!((export.server.as_str(), export.path.as_str()), ("10.0.0.4", "/exports/a"));
        assert_eq!(export.options, ["vers=4.2", "nconnect=4"]);
        for bad in [
            "nfs://server:/mnt",
            "nfs://-o/x:/mnt",
            "nfs://server/a/../b:/mnt",
            "nfs://server/a,suid:/mnt",
            "[opts=suid]nfs://server/a:/mnt",
            "[opts=\"vers=4 dev\"]nfs://server/a:/mnt",
            "[secret=x]nfs://server/a:/mnt",
        ] {
            assert!(volume(bad).unsupported().is_some(), "{bad}");
        }
    }
}
