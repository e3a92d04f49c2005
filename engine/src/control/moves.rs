//! Watches directories for files that are moved into them.
//!
//! As in Envoy, a write is not noticed: the writer of a file may be half done, but a move is atomic.
//! Unlike in Envoy, a directory that is itself replaced is watched again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use crate::config_source::MoveTarget;

/// How often a directory that is missing is looked for.
const RETRY: Duration = Duration::from_secs(1);

/// Room for some events; the name of a file has at most 255 bytes.
const EVENTS_BYTES: usize = 4096;

/// The watcher of the process, which is made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Watchers(RefCell<Option<Watcher>>);

impl Watchers {
    /// The watcher.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn watcher(&self) -> io::Result<Watcher> {
        let mut watcher = self.0.borrow_mut();
        if let Some(watcher) = &*watcher {
            return Ok(watcher.clone());
        }
        let new = Watcher::new()?;
        drop(tokio::task::spawn_local(new.clone().run()));
        Ok(watcher.insert(new).clone())
    }
}

/// The directories that are watched. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Watcher(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    inotify: Rc<pipe::Receiver>,
    /// By the watch descriptors of their directories.
    watched: HashMap<i32, Vec<Entry>>,
    /// Those whose directory is missing.
    missing: Vec<Entry>,
    next_id: u64,
}

/// Who is interested in a directory.
#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    directory: PathBuf,
    /// None: any file.
    file: Option<OsString>,
    moved: Rc<Notify>,
    /// Why the directory could not be watched the last time.
    refused: Option<Errno>,
}

/// Something that is watched, until this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Watcher,
    id: u64,
}

impl Watcher {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Tokio waits for it as for the end of a pipe that is read.
        let inotify = Rc::new(pipe::Receiver::from_owned_fd_unchecked(inotify)?);
        let state = State { inotify, watched: HashMap::new(), missing: Vec::new(), next_id: 0 };
        Ok(Self(Rc::new(RefCell::new(state))))
    }

    /// Notifies `moved` when something is moved to `target`. A directory may appear later.
    pub(super) fn watch(&self, target: &MoveTarget, moved: &Rc<Notify>) -> Watch {
        let mut state = self.0.borrow_mut();
        let id = state.next_id;
        state.next_id += 1;
        let (directory, file) = target.parts();
        let (directory, file) = (directory.to_owned(), file.map(OsStr::to_owned));
        state.add(Entry { id, directory, file, moved: Rc::clone(moved), refused: None });
        Watch { watcher: self.clone(), id }
    }

    /// Passes on what happens, forever.
    pub(super) async fn run(self) {
        let inotify = Rc::clone(&self.0.borrow().inotify);
        loop {
            let is_missing = !self.0.borrow().missing.is_empty();
            tokio::select! {
                ready = inotify.readable() => {
                    if ready.is_err() {
                        return; // the runtime ends
                    }
                    self.0.borrow_mut().read_events();
                }
                () = tokio::time::sleep(RETRY), if is_missing => {
                    self.0.borrow_mut().look_for_missing();
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.0.borrow_mut().remove(self.id);
    }
}

impl Entry {
    /// Whether the operator has not been told yet that the directory cannot be watched for this reason. It is
    /// no fault that a directory is missing.
    fn is_news(&mut self, error: Errno) -> bool {
        self.refused.replace(error) != Some(error) && error != Errno::NOENT
    }
}

impl State {
    /// Whether the directory of the entry is there.
    fn add(&mut self, mut entry: Entry) -> bool {
        let flags = WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&*self.inotify, &entry.directory, flags) {
            Ok(descriptor) => {
                entry.refused = None;
                self.watched.entry(descriptor).or_default().push(entry);
                true
            }
            Err(error) => {
                if entry.is_news(error) {
                    let directory = entry.directory.display();
                    tracing::warn!(target: "config", "cannot watch {directory}: {error}");
                }
                self.missing.push(entry);
                false
            }
        }
    }

    fn remove(&mut self, id: u64) {
        self.missing.retain(|entry| entry.id != id);
        let inotify = Rc::clone(&self.inotify);
        self.watched.retain(|descriptor, entries| {
            entries.retain(|entry| entry.id != id);
            if entries.is_empty() {
                // It fails if the directory is gone.
                let _gone = inotify::remove_watch(&*inotify, *descriptor);
            }
            !entries.is_empty()
        });
    }

    fn read_events(&mut self) {
        let inotify = Rc::clone(&self.inotify);
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut events = Reader::new(&*inotify, &mut buffer);
        // Ends with an error when there are no more events.
        let _none: io::Result<()> = inotify.try_io(|| {
            loop {
                let event = events.next()?;
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                self.handle(event.wd(), event.events(), name);
            }
        });
    }

    fn handle(&mut self, descriptor: i32, events: ReadFlags, name: Option<&OsStr>) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.watched.values().flatten().for_each(|entry| entry.moved.notify_one());
        } else if events.contains(ReadFlags::MOVED_TO) {
            let entries = self.watched.get(&descriptor).into_iter().flatten();
            entries
                .filter(|entry| entry.file.is_none() || entry.file.as_deref() == name)
                .for_each(|entry| entry.moved.notify_one());
        } else {
            // The directory is no longer where it was.
            let _gone = inotify::remove_watch(&*self.inotify, descriptor);
            self.missing.extend(self.watched.remove(&descriptor).into_iter().flatten());
            self.look_for_missing();
        }
    }

    fn look_for_missing(&mut self) {
        for entry in std::mem::take(&mut self.missing) {
            let moved = Rc::clone(&entry.moved);
            if self.add(entry) {
                moved.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const NEVER: Duration = Duration::from_millis(200);

    /// Runs a story with a watcher and a folder.
    fn story<F: Future<Output = ()>>(story: impl FnOnce(Watcher, PathBuf) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(async {
            let folder = tempfile::tempdir().unwrap();
            let watcher = Watcher::new().unwrap();
            let running = tokio::task::spawn_local(watcher.clone().run());
            story(watcher, folder.path().to_owned()).await;
            running.abort();
        }));
    }

    fn move_to(path: &Path) {
        let other = path.with_extension("new");
        fs::write(&other, "").unwrap();
        fs::rename(other, path).unwrap();
    }

    async fn is_notified(moved: &Notify) {
        timeout(SOON, moved.notified()).await.unwrap();
    }

    async fn is_not_notified(moved: &Notify) {
        assert!(timeout(NEVER, moved.notified()).await.is_err());
    }

    #[test]
    fn a_move_is_noticed_and_a_write_is_not() {
        story(async |watcher, folder| {
            let (file, other) = (folder.join("a"), folder.join("b"));
            let (of_file, of_folder) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
            let _file = watcher.watch(&MoveTarget::File(file.clone()), &of_file);
            let _folder = watcher.watch(&MoveTarget::Directory(folder.clone()), &of_folder);
            fs::write(&file, "written").unwrap();
            is_not_notified(&of_file).await;
            move_to(&other);
            is_notified(&of_folder).await;
            is_not_notified(&of_file).await;
            move_to(&file);
            is_notified(&of_folder).await;
            is_notified(&of_file).await;
        });
    }

    #[test]
    fn a_directory_may_appear_late_and_may_be_replaced() {
        story(async |watcher, folder| {
            let directory = folder.join("certs");
            let moved = Rc::new(Notify::new());
            let _watch = watcher.watch(&MoveTarget::Directory(directory.clone()), &moved);
            for old in ["old", "older"] {
                fs::create_dir(&directory).unwrap();
                is_notified(&moved).await;
                move_to(&directory.join("a"));
                is_notified(&moved).await;
                fs::rename(&directory, folder.join(old)).unwrap();
            }
            fs::create_dir(&directory).unwrap();
            is_notified(&moved).await;
            fs::remove_dir(&directory).unwrap();
            fs::create_dir(&directory).unwrap();
            is_notified(&moved).await;
        });
    }

    #[test]
    fn a_directory_that_cannot_be_watched_is_news_once_for_each_reason() {
        let moved = Rc::new(Notify::new());
        let mut entry =
            Entry { id: 0, directory: PathBuf::new(), file: None, moved, refused: None };
        let told: Vec<_> = [
            (Errno::NOENT, false),
            (Errno::ACCESS, true),
            (Errno::ACCESS, false),
            (Errno::NOTDIR, true),
            (Errno::NOENT, false),
            (Errno::NOTDIR, true),
        ]
        .into_iter()
        .map(|(error, expected)| (entry.is_news(error), expected))
        .collect();
        assert!(told.iter().all(|(news, expected)| news == expected), "{told:?}");
    }

    #[test]
    fn a_path_that_is_no_directory_stays_known_as_that() {
        story(async |watcher, folder| {
            let file = folder.join("a");
            fs::write(&file, "").unwrap();
            let moved = Rc::new(Notify::new());
            let _watch = watcher.watch(&MoveTarget::Directory(file), &moved);
            let mut state = watcher.0.borrow_mut();
            state.look_for_missing();
            assert_eq!(state.missing[0].refused, Some(Errno::NOTDIR));
        });
    }

    #[test]
    fn nothing_is_watched_for_those_who_have_left() {
        story(async |watcher, folder| {
            let moved = Rc::new(Notify::new());
            let first = watcher.watch(&MoveTarget::Directory(folder.clone()), &moved);
            let second = watcher.watch(&MoveTarget::Directory(folder.join("missing")), &moved);
            drop((first, second));
            assert!(watcher.0.borrow().watched.is_empty());
            assert!(watcher.0.borrow().missing.is_empty());
            move_to(&folder.join("a"));
            is_not_notified(&moved).await;
        });
    }
}
