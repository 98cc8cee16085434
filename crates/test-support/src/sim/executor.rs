//! An executor without threads: chance picks which woken task goes on next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures_util::future::BoxFuture;

use super::rng::Rng;

/// The number of a task.
pub(crate) type TaskId = u64;

/// Tasks that others asked for, to be taken up after the present step.
#[derive(Clone, Default)]
pub(crate) struct Spawner(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Spawner {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::pin(task));
    }
}

/// Runs tasks one step at a time.
pub(crate) struct Executor {
    rng: Rng,
    next: TaskId,
    tasks: BTreeMap<TaskId, Task>,
    ready: Arc<Mutex<Vec<TaskId>>>,
    spawner: Spawner,
    /// Tasks that sleep, and whether they were woken meanwhile.
    paused: BTreeMap<TaskId, bool>,
}

struct Task {
    future: BoxFuture<'static, ()>,
    wake: Arc<TaskWake>,
    waker: Waker,
}

struct TaskWake {
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.id);
        }
    }
}

impl Executor {
    pub(crate) fn new(rng: Rng, spawner: Spawner) -> Self {
        Self {
            rng,
            next: 0,
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            spawner,
            paused: BTreeMap::new(),
        }
    }

    /// Takes up a task.
    pub(crate) fn spawn(&mut self, future: BoxFuture<'static, ()>) -> TaskId {
        self.next += 1;
        let id = self.next;
        let wake = Arc::new(TaskWake {
            id,
            queued: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        });
        let waker = Waker::from(Arc::clone(&wake));
        Arc::clone(&wake).wake();
        self.tasks.insert(id, Task { future, wake, waker });
        id
    }

    /// Drops a task with everything it was about to do.
    pub(crate) fn kill(&mut self, id: TaskId) {
        self.paused.remove(&id);
        drop(self.tasks.remove(&id));
    }

    /// Lets a task take no step until it is told to go on.
    pub(crate) fn pause(&mut self, id: TaskId) {
        self.paused.entry(id).or_insert(false);
    }

    /// Lets a task go on where it was.
    pub(crate) fn go_on(&mut self, id: TaskId) {
        if self.paused.remove(&id) == Some(true) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        }
    }

    pub(crate) fn is_alive(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Lets one woken task go on; none if all wait.
    pub(crate) fn step(&mut self) -> Option<TaskId> {
        loop {
            let spawned = std::mem::take(&mut *self.spawner.0.lock().unwrap_or_else(PoisonError::into_inner));
            for future in spawned {
                self.spawn(future);
            }
            let id = {
                let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                if ready.is_empty() {
                    return None;
                }
                let at = self.rng.index(ready.len());
                ready.swap_remove(at)
            };
            if let Some(woken) = self.paused.get_mut(&id) {
                *woken = true;
                continue;
            }
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            task.wake.queued.store(false, Ordering::Relaxed);
            let mut context = Context::from_waker(&task.waker);
            if task.future.as_mut().poll(&mut context).is_ready() {
                self.tasks.remove(&id);
            }
            return Some(id);
        }
    }
}
