//! Rules between pods, counted by topology domain as pods move.
//!
//! A *track* counts the pods some selector finds, by the value of one topology label. A *sheet* lists the tracks that
//! decide where a pod may go. Both are made when a moving pod first needs them, so rules of pods that stay cost
//! nothing, except that anti-affinity of those that stay binds those that come.

mod find;
mod sheet;
mod track;

pub(super) use self::sheet::Breach;

use self::{
    sheet::{Sheet, SpreadTrack},
    track::{Counts, DomainKey, Domains, Track},
};
use super::view::{NONE, View};
use crate::scaling::model::{
    constraint::CORDON,
    symbols::{Map, Sym, id},
};

/// Where every pod is, as far as that differs from the model.
#[derive(Debug)]
pub(super) struct Positions(Vec<u32>);

/// The pod has not moved.
const HOME: u32 = u32::MAX - 1;

impl Positions {
    pub(super) fn new(view: &View<'_>) -> Self {
        Self(vec![HOME; view.pod_rows()])
    }

    /// The rank of the node a pod is on.
    pub(super) fn of(&self, view: &View<'_>, pod: u32) -> u32 {
        match self.0.get(pod as usize) {
            Some(rank) if *rank != HOME => *rank,
            _ => view.home(pod),
        }
    }

    pub(super) fn set(&mut self, pod: u32, rank: u32) {
        if let Some(place) = self.0.get_mut(pod as usize) {
            *place = rank;
        }
    }
}

pub(super) struct Crowd<'v, 'm> {
    view: &'v View<'m>,
    /// For each topology label in use, its value on each node.
    columns: Vec<Vec<Option<Sym>>>,
    column_ids: Map<Sym, u32>,
    tracks: Vec<Track>,
    /// Whether a track counts the pods of a group: most are counted by none.
    tracked: Vec<bool>,
    /// Tracks that count the pods of a group.
    tracks_of_group: Vec<Vec<u32>>,
    /// Tracks that count the pods of a template, because they hold an anti-affinity term.
    tracks_of_peers: Vec<Vec<u32>>,
    holder_tracks: Map<u32, u32>,
    anti_tracks: Map<u32, u32>,
    affinity_tracks: Map<u32, Vec<u32>>,
    spread_tracks: Map<(u32, u32, Sym), Vec<SpreadTrack>>,
    sheets: Vec<Sheet>,
    /// By group, template and constraint; `None` if nothing binds such pods.
    sheet_ids: Map<(u32, u32, u32), Option<u32>>,
    domains: Vec<Domains>,
    domain_ids: Map<DomainKey, u32>,
    gone: Vec<bool>,
    cordoned: Vec<bool>,
}

impl<'v, 'm> Crowd<'v, 'm> {
    pub(super) fn new(view: &'v View<'m>) -> Self {
        let templates = view.model.peers.iter().count();
        Self {
            view,
            columns: Vec::new(),
            column_ids: Map::default(),
            tracks: Vec::new(),
            tracked: vec![false; view.model.groups.len()],
            tracks_of_group: vec![Vec::new(); view.model.groups.len()],
            tracks_of_peers: vec![Vec::new(); templates],
            holder_tracks: Map::default(),
            anti_tracks: Map::default(),
            affinity_tracks: Map::default(),
            spread_tracks: Map::default(),
            sheets: Vec::new(),
            sheet_ids: Map::default(),
            domains: Vec::new(),
            domain_ids: Map::default(),
            gone: vec![false; view.len()],
            cordoned: vec![false; view.len()],
        }
    }

    pub(super) fn add(&mut self, pod: u32, rank: u32) {
        self.change(pod, rank, 1);
    }

    pub(super) fn remove(&mut self, pod: u32, rank: u32) {
        self.change(pod, rank, -1);
    }

    fn change(&mut self, pod: u32, rank: u32, change: i64) {
        let outline = self.view.outline(pod);
        let of_group: &[u32] = if self.tracked[outline.group as usize] {
            &self.tracks_of_group[outline.group as usize]
        } else {
            &[]
        };
        let of_peers = &self.tracks_of_peers[outline.peers as usize];
        if of_group.is_empty() && of_peers.is_empty() || self.gone[rank as usize] || !outline.holds_room {
            return;
        }
        for track in of_group.iter().chain(of_peers) {
            let track = &mut self.tracks[*track as usize];
            if let Some(domains) = track.domains
                && (outline.terminating || !self.domains[domains as usize].eligible[rank as usize])
            {
                continue;
            }
            if let Some(domain) = self.columns[track.column as usize][rank as usize] {
                track.counts.change(domain, change);
            }
        }
    }

    pub(super) fn set_gone(&mut self, rank: u32, gone: bool, here: impl Fn() -> Vec<u32>) {
        if self.tracks.is_empty() {
            self.gone[rank as usize] = gone;
            return;
        }
        let here = here();
        if gone {
            here.iter().for_each(|pod| self.remove(*pod, rank));
        }
        self.gone[rank as usize] = gone;
        self.refresh(rank, Vec::new);
        if !gone {
            here.iter().for_each(|pod| self.add(*pod, rank));
        }
    }

    pub(super) fn set_cordoned(&mut self, rank: u32, cordoned: bool, here: impl Fn() -> Vec<u32>) {
        self.cordoned[rank as usize] = cordoned;
        self.refresh(rank, here);
    }

    /// Works out anew in which domain sets a node is; `here` are the pods whose counting depends on it.
    fn refresh(&mut self, rank: u32, here: impl Fn() -> Vec<u32>) {
        let mut pods: Option<Vec<u32>> = None;
        for at in 0..id(self.domains.len()) {
            let before = self.domains[at as usize].eligible[rank as usize];
            let after = self.is_eligible(&self.domains[at as usize].rule, rank);
            if before == after {
                continue;
            }
            let here = pods.get_or_insert_with(&here);
            if before {
                self.recount(at, rank, here, -1);
            }
            let domains = &mut self.domains[at as usize];
            domains.eligible[rank as usize] = after;
            if let Some(domain) = self.columns[domains.column as usize][rank as usize] {
                domains.nodes.change(domain, if after { 1 } else { -1 });
            }
            if after {
                self.recount(at, rank, here, 1);
            }
        }
    }

    fn recount(&mut self, domains: u32, rank: u32, here: &[u32], change: i64) {
        for pod in here {
            let outline = self.view.outline(*pod);
            if outline.terminating || !outline.holds_room {
                continue;
            }
            for track in &self.tracks_of_group[outline.group as usize] {
                let track = &mut self.tracks[*track as usize];
                if track.domains == Some(domains)
                    && let Some(domain) = self.columns[track.column as usize][rank as usize]
                {
                    track.counts.change(domain, change);
                }
            }
        }
    }

    fn is_eligible(&self, rule: &DomainKey, rank: u32) -> bool {
        if self.gone[rank as usize] {
            return false;
        }
        let model = self.view.model;
        let node = self.view.node(rank);
        if !rule.required.iter().all(|key| node.labels.get(*key).is_some()) {
            return false;
        }
        let Some(constraint) = rule.constraint.map(|constraint| &model.constraints[constraint]) else {
            return true;
        };
        if rule.honor_affinity && !constraint.accepts_labels(node.name, &node.labels, &model.symbols) {
            return false;
        }
        !rule.honor_taints
            || constraint.tolerates_all(&node.taints)
                && (!self.cordoned[rank as usize] || constraint.tolerates(CORDON))
    }

    fn column(&mut self, key: Sym) -> u32 {
        if let Some(at) = self.column_ids.get(&key) {
            return *at;
        }
        let at = id(self.columns.len());
        let values = self.view.ranks().map(|rank| self.view.node(rank).labels.get(key));
        self.columns.push(values.collect());
        self.column_ids.insert(key, at);
        at
    }

    fn domains(&mut self, rule: DomainKey) -> u32 {
        if let Some(at) = self.domain_ids.get(&rule) {
            return *at;
        }
        let column = self.column(rule.key);
        let eligible: Vec<bool> = self
            .view
            .ranks()
            .map(|rank| self.is_eligible(&rule, rank))
            .collect();
        let values = self.columns[column as usize].iter().zip(&eligible);
        let nodes = values
            .filter(|(_, eligible)| **eligible)
            .filter_map(|(domain, _)| *domain);
        let at = id(self.domains.len());
        self.domains.push(Domains {
            nodes: Counts::tally(nodes.collect()),
            rule: rule.clone(),
            column,
            eligible,
        });
        self.domain_ids.insert(rule, at);
        at
    }

    /// Counts pods where they are now.
    fn make_track(
        &mut self,
        key: Sym,
        domains: Option<u32>,
        pods: impl Iterator<Item = u32>,
        at: &Positions,
    ) -> u32 {
        let column = self.column(key);
        let mut found: Vec<Sym> = Vec::new();
        for pod in pods {
            let rank = at.of(self.view, pod);
            let outline = self.view.outline(pod);
            if rank == NONE || self.gone[rank as usize] || !outline.holds_room {
                continue;
            }
            if let Some(domains) = domains
                && (outline.terminating || !self.domains[domains as usize].eligible[rank as usize])
            {
                continue;
            }
            found.extend(self.columns[column as usize][rank as usize]);
        }
        self.tracks.push(Track {
            column,
            counts: Counts::tally(found),
            domains,
        });
        id(self.tracks.len() - 1)
    }

    fn track_groups(&mut self, key: Sym, domains: Option<u32>, groups: &[u32], at: &Positions) -> u32 {
        let model = self.view.model;
        let pods = groups
            .iter()
            .filter_map(|group| model.groups.get(*group as usize))
            .flat_map(|group| &group.pods)
            .copied();
        let track = self.make_track(key, domains, pods, at);
        for group in groups {
            self.tracked[*group as usize] = true;
            self.tracks_of_group[*group as usize].push(track);
        }
        track
    }

    fn track_holders(&mut self, term: u32, at: &Positions) -> u32 {
        let model = self.view.model;
        let key = model.terms[term].topology_key;
        let track = self.make_track(key, None, model.aversions.holders(term), at);
        for peers in model.aversions.templates(term) {
            self.tracks_of_peers[*peers as usize].push(track);
        }
        track
    }
}
