//! A plan played as the scheduler might play it.

use super::{
    candidate::{Reviews, by_name},
    stage::Stage,
    view::View,
};

/// A rehearsal is for clusters of up to this many nodes; in larger ones a pod has other places.
const REHEARSED: usize = 64;
/// How often it is played at most, and at least.
const MOST: usize = 48;
const LEAST: usize = 6;
/// Looks at a node that it may take in all, roughly.
const LOOKS: usize = 400_000;

/// Plays the waves as the scheduler might. It does not know the plan: pods come in any order, all of a wave at once or
/// one after the other, and go to any node they fit on, rather to one that is less loaded; pods that waited before take
/// room too when they can; one that fits nowhere waits until something has changed. Pods that are left waiting at the end
/// of their wave in one of the runs, in order. The same input has the same runs.
pub(super) fn rehearse(
    stage: &mut Stage<'_, '_>,
    reviews: &Reviews<'_, '_>,
    waves: &[Vec<usize>],
) -> Vec<u32> {
    let view = stage.view;
    let moves: usize = waves
        .iter()
        .flatten()
        .map(|at| reviews.drain(*at).hardest.len())
        .sum();
    let mut stuck: Vec<u32> = Vec::new();
    if view.len() > REHEARSED || moves == 0 {
        return stuck;
    }
    let mut hungry: Vec<u32> = view.waiting().collect();
    hungry.sort_by(|a, b| by_name(view, *a, *b));
    let runs = (LOOKS / (moves + hungry.len()) / view.len().max(1)).clamp(LEAST, MOST);
    for run in 0..runs {
        stage.undo_to(0);
        let mut run = Run {
            stage,
            dice: Dice(run as u64),
            waiting: hungry.clone(),
        };
        run.play(view, reviews, waves, &mut stuck);
    }
    stuck.sort_by(|a, b| by_name(view, *a, *b));
    stuck.dedup();
    stuck
}

struct Run<'r, 'v, 'm> {
    stage: &'r mut Stage<'v, 'm>,
    dice: Dice,
    /// Pods that fit nowhere for now.
    waiting: Vec<u32>,
}

impl Run<'_, '_, '_> {
    fn play(
        &mut self,
        view: &View<'_>,
        reviews: &Reviews<'_, '_>,
        waves: &[Vec<usize>],
        stuck: &mut Vec<u32>,
    ) {
        for at in waves.iter().flatten() {
            self.stage.cordon(reviews.rank(*at), true);
        }
        let at_once = self.dice.below(2) == 0;
        // The scheduler prefers nodes with more room left, but other things count too.
        let careless = self.dice.below(3);
        for wave in waves {
            let mut pods: Vec<u32> = wave
                .iter()
                .flat_map(|at| &reviews.drain(*at).hardest)
                .copied()
                .collect();
            pods.sort_by(|a, b| by_name(view, *a, *b));
            self.dice.shuffle(&mut pods);
            if at_once {
                pods.iter().for_each(|pod| self.stage.lift(*pod));
            }
            for pod in &pods {
                if !at_once {
                    self.stage.lift(*pod);
                }
                // Whoever waits is looked at again when a pod has gone, perhaps before the one that takes its place.
                let first = self.dice.below(2) == 0;
                if first {
                    self.retry(careless);
                }
                if !self.put(*pod, careless) {
                    self.waiting.push(*pod);
                }
                if !first {
                    self.retry(careless);
                }
            }
            self.retry(careless);
            stuck.extend(self.waiting.iter().filter(|pod| pods.contains(pod)));
            wave.iter()
                .for_each(|at| self.stage.remove_node(reviews.rank(*at)));
        }
    }

    /// To the least loaded node it fits on, to the better of two thrown, or to any.
    fn put(&mut self, pod: u32, careless: usize) -> bool {
        let options = self.stage.options(pod);
        let at = match careless {
            0 => 0,
            1 => self.dice.below(options.len()).min(self.dice.below(options.len())),
            _ => self.dice.below(options.len()),
        };
        options
            .get(at)
            .is_some_and(|rank| self.stage.place_at(pod, *rank))
    }

    /// Everybody who waits tries again, until nobody finds a place.
    fn retry(&mut self, careless: usize) {
        loop {
            let mut waiting = std::mem::take(&mut self.waiting);
            self.dice.shuffle(&mut waiting);
            let before = waiting.len();
            waiting.retain(|pod| !self.put(*pod, careless));
            let done = waiting.is_empty() || waiting.len() == before;
            self.waiting = waiting;
            if done {
                return;
            }
        }
    }
}

/// SplitMix64: every run has its own throws, and always the same ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut throw = self.0;
        throw = (throw ^ (throw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        throw = (throw ^ (throw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        throw ^= throw >> 31;
        usize::try_from(throw % sides.max(1) as u64).unwrap_or(0)
    }

    fn shuffle(&mut self, pods: &mut [u32]) {
        for at in (1..pods.len()).rev() {
            pods.swap(at, self.below(at + 1));
        }
    }
}
