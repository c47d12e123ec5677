//! A list of paths on the wire: the kernel's bytes, which need not be UTF-8, separated by NUL.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;

use super::FRAME_DATA_BYTES;

/// Paths below the root, as many as fit into one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PathList(Bytes);

impl PathList {
    /// Wraps a received list.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Splits paths, in their order, into lists of one frame each: at least one list, which may be
    /// empty.
    pub(crate) fn pieces<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<Self> {
        let (mut pieces, mut piece) = (Vec::new(), Vec::new());
        for path in paths {
            let name = path.as_os_str().as_bytes();
            if piece.len() + name.len() > FRAME_DATA_BYTES {
                pieces.push(Self(std::mem::take(&mut piece).into()));
            }
            piece.extend_from_slice(name);
            piece.push(0);
        }
        pieces.push(Self(piece.into()));
        pieces
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let names = self.0.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        names.map(|name| Path::new(OsStr::from_bytes(name)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn any_number_of_names_goes_into_pieces_and_comes_out_of_them() {
        assert_eq!(PathList::pieces([]), [PathList::default()]);
        let mut paths: Vec<PathBuf> = (0..9000).map(|number| format!("a directory/{number:060}").into()).collect();
        paths.push(OsStr::from_bytes(b"\xe9\xff/\n").into());
        let pieces = PathList::pieces(paths.iter().map(PathBuf::as_path));
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.as_bytes().len() <= FRAME_DATA_BYTES + 1));
        let back: Vec<&Path> = pieces.iter().flat_map(PathList::paths).collect();
        assert_eq!(back, paths);
    }
}
