//! The file that `--log-path` names. It can be reopened after it was moved away.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tracing_subscriber::fmt::MakeWriter;

/// An open log file. Clones share the file.
///
/// Invariant: each line is written whole to one file, the old or the new one, and none is lost.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    path: Arc<Path>,
    file: Arc<RwLock<Arc<File>>>,
}

impl LogFile {
    /// Opens `path` for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: Arc::new(RwLock::new(Arc::new(append_to(path)?))) })
    }

    /// Reopens the path. If that fails, lines still go to the old file.
    pub(super) fn reopen(&self) -> Result<(), (PathBuf, io::Error)> {
        let file = append_to(&self.path).map_err(|error| (self.path.to_path_buf(), error))?;
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// One line being written.
#[derive(Debug)]
pub(super) struct Line(Arc<File>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

impl MakeWriter<'_> for LogFile {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn after_a_rotation_lines_go_into_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = LogFile::open(&path).unwrap();
        let say = |line: &str| log.make_writer().write_all(line.as_bytes()).unwrap();
        say("first\n");
        fs::rename(&path, &moved).unwrap();
        say("second\n");
        log.reopen().unwrap();
        say("third\n");
        assert_eq!(fs::read_to_string(&moved).unwrap(), "first\nsecond\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\n");
    }

    #[test]
    fn the_old_file_is_kept_when_the_new_one_cannot_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, moved) = (folder.path().join("inside"), folder.path().join("moved"));
        fs::create_dir(&inside).unwrap();
        let log = LogFile::open(&inside.join("log")).unwrap();
        fs::rename(&inside, &moved).unwrap();
        let (path, _) = log.reopen().unwrap_err();
        assert_eq!(path, inside.join("log"));
        log.make_writer().write_all(b"still here\n").unwrap();
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "still here\n");
    }
}
