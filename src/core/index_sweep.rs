//! The sweep: what was invalidated, handed out one by one.

use super::*;

/// Room for jobs that is not worth giving back.
const FEW: usize = 64;

impl Index {
    /// What is queued, at most.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// The next thing to do about what was invalidated. Constant work.
    ///
    /// Who may not remove (a replica: its primary's removals are on their way)
    /// is told to wait at the first entry that is dead and still there, which
    /// stays the next: whoever becomes a primary removes what is left.
    pub fn sweep(&mut self, entries: &impl Entries, may_remove: bool) -> Sweep {
        let Some(mut job) = self.jobs.pop_front() else { return Sweep::Done };
        if self.jobs.capacity() > FEW && self.jobs.len() * 4 < self.jobs.capacity() {
            self.jobs.shrink_to(self.jobs.len() * 2 + 1);
        }
        let (done, found) = self.step(&mut job, entries);
        if let (Sweep::Remove(..), false) = (found, may_remove) {
            self.step_back(&mut job, entries, found);
            self.jobs.push_front(job);
            return Sweep::Wait;
        }
        if done {
            self.finish(&job);
        } else {
            self.jobs.push_front(job);
        }
        found
    }

    fn step(&mut self, job: &mut Job, entries: &impl Entries) -> (bool, Sweep) {
        let (space, slot, done, namespace) = match job {
            Job::Members { space, members } => {
                let slot = members.pop();
                (*space, slot, members.is_empty(), None)
            }
            Job::Soft { tag, left } => {
                let Some(tag) = self.tags.get(*tag) else { return (true, Sweep::Nothing) };
                *left = left.saturating_sub(1);
                (tag.space, tag.members.get(*left), *left == 0, None)
            }
            Job::Namespace { space, namespace, left } => {
                let slot = Slot::try_from(*left).ok();
                *left = left.saturating_sub(1);
                (*space, slot, *left == 0, Some(*namespace))
            }
        };
        self.backlog = self.backlog.saturating_sub(1);
        let Some(db) = self.holder(space) else { return (done, Sweep::Nothing) };
        let handle = slot.and_then(|slot| self.databases[db].slots.get(slot));
        let Some(handle) = handle else { return (done, Sweep::Nothing) };
        let view = View::new(entries.bytes(handle));
        if namespace.is_some_and(|namespace| namespace != view.namespace()) {
            return (done, Sweep::Nothing);
        }
        let found = match self.verdict(db, view) {
            Verdict::Dead => Sweep::Remove(db, handle),
            Verdict::Stale(_) => Sweep::Tell(db, handle),
            Verdict::Untouched => Sweep::Nothing,
        };
        (done, found)
    }

    /// Undoes the step that found an entry.
    fn step_back(&mut self, job: &mut Job, entries: &impl Entries, found: Sweep) {
        match job {
            Job::Members { members, .. } => {
                if let Sweep::Remove(_, handle) = found {
                    members.push(View::new(entries.bytes(handle)).slot());
                }
            }
            Job::Soft { left, .. } | Job::Namespace { left, .. } => *left += 1,
        }
        self.backlog += 1;
    }

    /// Lets go of what a job held.
    pub(super) fn finish(&mut self, job: &Job) {
        let left = match job {
            Job::Members { members, .. } => members.len(),
            Job::Namespace { left, .. } => *left,
            Job::Soft { tag, left } => {
                self.release(*tag);
                *left
            }
        };
        self.backlog = self.backlog.saturating_sub(left);
    }
}
