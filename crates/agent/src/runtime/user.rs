//! The user of a container: `user[:group]` of the image's configuration, as names or numbers,
//! looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::fs;
use std::path::PathBuf;

/// The user of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl Default for User {
    fn default() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() }
    }
}

impl User {
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Finds the user that `text` names in an image with these layers, topmost first; root when empty.
pub(crate) fn find(layers: &[PathBuf], text: &str) -> Result<User, String> {
    if text.is_empty() {
        return Ok(User::default());
    }
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let (passwd, group_list) = (list(layers, "passwd"), list(layers, "group"));
    // name:password:uid:gid:comment:home:shell
    let known = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let known = known.filter(|fields| fields.len() >= 6).find(|fields| fields[0] == name || fields[2] == name);
    let number = |text: &str| text.parse::<u32>().ok();
    let mut user = match (&known, number(name)) {
        (Some(fields), _) => User {
            uid: number(fields[2]).ok_or_else(|| format!("its user `{name}` has no number"))?,
            gid: number(fields[3]).unwrap_or(0),
            groups: Vec::new(),
            home: fields[5].to_owned(),
        },
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".into() },
        (None, None) => return Err(format!("it runs as `{name}`, whom its /etc/passwd does not know")),
    };
    // name:password:gid:members
    let groups: Vec<Vec<&str>> = group_list.lines().map(|line| line.split(':').collect()).collect();
    let groups = groups.iter().filter(|fields| fields.len() >= 4);
    match group {
        Some(group) => {
            let found = groups.clone().find(|fields| fields[0] == group).and_then(|fields| number(fields[2]));
            user.gid = found
                .or_else(|| number(group))
                .ok_or_else(|| format!("it runs in the group `{group}`, which its /etc/group does not know"))?;
        }
        None => {
            let login = known.as_ref().map_or(name, |fields| fields[0]);
            let member = |fields: &&Vec<&str>| fields[3].split(',').any(|member| member == login);
            user.groups = groups.filter(member).filter_map(|fields| number(fields[2])).collect();
        }
    }
    Ok(user)
}

/// Reads a file of `/etc` of the image. Links never lead out of the layers.
fn list(layers: &[PathBuf], name: &str) -> String {
    let is_real = |layer: &&PathBuf| layer.join("etc").symlink_metadata().is_ok_and(|found| found.is_dir());
    let paths = layers.iter().filter(is_real).map(|layer| layer.join("etc").join(name));
    let topmost = paths.filter_map(|path| Some((path.symlink_metadata().ok()?, path))).next();
    match topmost {
        Some((found, path)) if found.is_file() => fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_as_in_the_image() {
        let world = tempfile::tempdir().unwrap();
        let layers = ["top", "base"].map(|layer| world.path().join(layer));
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        fs::write(layers[1].join("etc/passwd"), "root:x:0:0::/root:/bin/sh\njovyan:x:1000:100::/home/jovyan:/bin/sh\n")
            .unwrap();
        fs::write(layers[1].join("etc/group"), "users:x:100:\nstaff:x:50:jovyan,other\n").unwrap();
        let user = |uid, gid, groups: &[u32], home: &str| User { uid, gid, groups: groups.to_vec(), home: home.into() };
        for (text, wanted) in [
            ("", User::default()),
            ("jovyan", user(1000, 100, &[50], "/home/jovyan")),
            ("1000", user(1000, 100, &[50], "/home/jovyan")),
            ("jovyan:staff", user(1000, 50, &[], "/home/jovyan")),
            ("77", user(77, 0, &[], "/")),
            ("77:88", user(77, 88, &[], "/")),
        ] {
            assert_eq!(find(&layers, text), Ok(wanted), "{text}");
        }
        assert!(find(&layers, "nobody").is_err() && find(&layers, "root:nogroup").is_err());
        // A list that leads out of the image is none.
        std::os::unix::fs::symlink("/etc/passwd", layers[0].join("etc/passwd")).unwrap();
        assert!(find(&layers, "jovyan").is_err());
    }
}
