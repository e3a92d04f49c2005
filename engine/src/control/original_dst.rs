//! Follows the hosts of clusters of type `ORIGINAL_DST`: the shards find them, and those that nothing uses are
//! removed here.

use std::rc::Rc;

use super::membership::Members;
use crate::upstream::discovery::Discovery;

/// Shows the hosts of a cluster, and removes unused ones, in a task of its own.
pub(super) fn follow(members: &Rc<Members>) {
    members.cluster.stats.control().warming_state.set(0);
    let task = keep_up(Rc::clone(members));
    members.add_lookup(tokio::task::spawn_local(task).abort_handle());
}

async fn keep_up(members: Rc<Members>) {
    let Discovery::OriginalDst(cluster) = &members.cluster.discovery else {
        return;
    };
    let mut cleanup = tokio::time::interval(cluster.cleanup_interval);
    loop {
        let changed = tokio::select! {
            () = cluster.has_new() => true,
            _ = cleanup.tick() => cluster.clean_up(),
        };
        if changed {
            members.cluster.stats.control().membership_change.inc();
            members.set_hosts(&cluster.all(), None);
        }
    }
}
