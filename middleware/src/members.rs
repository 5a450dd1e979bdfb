//! Who is there, by source and by how much they have shown: whom limits count, and who makes room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use slab::Slab;
use tokio::time::Instant;

use crate::accept_error::AcceptError;
use crate::closed::Closed;
use crate::lifeline::{Lifeline, Stage, State};
use crate::peer::Source;

#[derive(Default)]
pub(crate) struct Members {
    pub(crate) all: Slab<Arc<Lifeline>>,
    /// How many of them have finished their handshake.
    pub(crate) finished: usize,
    /// On how many of those somebody was verified.
    pub(crate) verified: usize,
    pub(crate) sources: HashMap<Source, OfSource>,
    /// Those that had sent nothing, those whose handshake was not finished, and those on which nobody was verified, when last looked at: the oldest
    /// first.
    pub(crate) silent: Queue,
    pub(crate) handshaking: Queue,
    pub(crate) unverified: Queue,
    /// Since when none is let in.
    pub(crate) draining: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct OfSource {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    pub(crate) verified: usize,
}

#[derive(Default)]
pub(crate) struct Queue(VecDeque<Weak<Lifeline>>);

impl Queue {
    pub(crate) fn push(&mut self, connection: &Arc<Lifeline>, stage: Stage) {
        // Those that went on or have ended are let go from time to time: the queue stays in proportion to what is open.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|connection| connection.upgrade().is_some_and(|connection| is_still(&connection, stage)));
            self.0.shrink_to(2 * self.0.len());
        }
        self.0.push_back(Arc::downgrade(connection));
    }

    /// Cuts the oldest. Whether there was one.
    pub(crate) fn cut_oldest(&mut self, stage: Stage) -> bool {
        while let Some(connection) = self.0.pop_front() {
            if let Some(connection) = connection.upgrade().filter(|connection| is_still(connection, stage)) {
                connection.end(State::Cut, Closed::Displaced);
                return true;
            }
        }
        false
    }
}

fn is_still(connection: &Lifeline, stage: Stage) -> bool {
    connection.stage() == stage && connection.state() < State::Cut
}

impl Members {
    /// How many handshakes are not finished.
    pub(crate) fn handshakes(&self) -> usize {
        self.all.len() - self.finished
    }

    /// Counts one more unfinished handshake to its source, unless that has its share of the places: a quarter while there are enough, else a sixteenth.
    pub(crate) fn count_to(&mut self, source: Source, places: usize) -> Result<(), AcceptError> {
        let limit = (places / if self.handshakes() < places / 2 { 4 } else { 16 }).max(1);
        let source = self.sources.entry(source).or_default();
        if source.handshakes >= limit {
            return Err(AcceptError::SourceIsFull);
        }
        source.connections += 1;
        source.handshakes += 1;
        Ok(())
    }

    /// Ends who has shown the least for the longest time. Whether there was one.
    pub(crate) fn make_room(&mut self) -> bool {
        self.silent.cut_oldest(Stage::Silent)
            || self.unverified.cut_oldest(Stage::Unverified)
            || self.handshaking.cut_oldest(Stage::Handshaking)
    }

    /// Ends the handshake that has come the least far for the longest time.
    pub(crate) fn cut_a_handshake(&mut self) {
        let _ = self.silent.cut_oldest(Stage::Silent) || self.handshaking.cut_oldest(Stage::Handshaking);
    }
}
