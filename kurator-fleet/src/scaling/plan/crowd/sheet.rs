//! What decides where the pods of one template may go.

use super::{Crowd, DomainKey, Positions};
use crate::scaling::model::symbols::{Sym, id};

/// One hard spread constraint.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpreadTrack {
    track: u32,
    domains: u32,
    max_skew: i64,
    min_domains: i64,
    /// The pods it counts in the emptiest domain, as of the last look.
    fewest: i64,
}

/// The tracks that bind a pod.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Pods that want none like it beside them.
    against: Vec<u32>,
    /// Pods it wants none of beside it.
    anti: Vec<u32>,
    /// Pods it wants one of beside it.
    affinity: Vec<u32>,
    /// It is one of the pods it wants to be with, so it may be the first.
    may_lead: bool,
    /// Each with 1 if it counts itself.
    spread: Vec<(SpreadTrack, i64)>,
}

/// Which rule between pods a node breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Breach {
    Affinity,
    Spread,
}

impl Crowd<'_, '_> {
    /// The sheet for a pod that is about to be placed, brought up to date; `None` if no other pod binds it.
    pub(in super::super) fn sheet(&mut self, pod: u32, at: &Positions) -> Option<u32> {
        let outline = self.view.outline(pod);
        if self.view.is_unbound(outline) {
            return None;
        }
        let key = (outline.group, outline.peers, outline.constraint);
        let sheet = match self.sheet_ids.get(&key) {
            Some(sheet) => *sheet,
            None => {
                let sheet = self.make_sheet(pod, at).map(|sheet| {
                    self.sheets.push(sheet);
                    id(self.sheets.len() - 1)
                });
                self.sheet_ids.insert(key, sheet);
                sheet
            }
        };
        let (tracks, domains) = (&mut self.tracks, &self.domains);
        for (spread, _) in &mut self.sheets.get_mut(sheet? as usize)?.spread {
            let counts = &mut tracks[spread.track as usize].counts;
            let nodes = domains[spread.domains as usize].nodes.len();
            let too_few = i64::try_from(nodes).is_ok_and(|nodes| nodes < spread.min_domains);
            spread.fewest = if too_few || counts.len() < nodes {
                0
            } else {
                counts.least()
            };
        }
        sheet
    }

    fn make_sheet(&mut self, pod: u32, at: &Positions) -> Option<Sheet> {
        let record = self.view.pod(pod);
        let model = self.view.model;
        let peers = &model.peers[record.peers];
        let mut against = Vec::new();
        for term in self.terms_against(record.group) {
            let track = match self.holder_tracks.get(&term) {
                Some(track) => *track,
                None => {
                    let track = self.track_holders(term, at);
                    self.holder_tracks.insert(term, track);
                    track
                }
            };
            against.push(track);
        }
        if peers.is_empty() && against.is_empty() {
            return None;
        }
        let mut anti = Vec::new();
        for term in &peers.anti_affinity {
            let track = match self.anti_tracks.get(term) {
                Some(track) => *track,
                None => {
                    let wanted = &model.terms[*term];
                    let groups = self.groups_of_term(wanted, true);
                    let track = self.track_groups(wanted.topology_key, None, &groups, at);
                    self.anti_tracks.insert(*term, track);
                    track
                }
            };
            anti.push(track);
        }
        let affinity = self.affinity(record.peers, at);
        let namespace = record.namespace;
        let spread = self.spread(record.peers, record.constraint, namespace, at);
        let own = &self.tracks_of_group[record.group as usize];
        let counts_itself = |spread: SpreadTrack| (spread, i64::from(own.contains(&spread.track)));
        Some(Sheet {
            against,
            anti,
            may_lead: affinity.iter().all(|track| own.contains(track)),
            affinity,
            spread: spread.into_iter().map(counts_itself).collect(),
        })
    }

    fn affinity(&mut self, peers: u32, at: &Positions) -> Vec<u32> {
        let model = self.view.model;
        let terms = &model.peers[peers].affinity;
        if terms.is_empty() {
            return Vec::new();
        }
        if let Some(tracks) = self.affinity_tracks.get(&peers) {
            return tracks.clone();
        }
        // A pod counts for any of the terms only if it matches all of them.
        let mut groups: Option<Vec<u32>> = None;
        for term in terms {
            let own = self.groups_of_term(&model.terms[*term], false);
            groups = Some(match groups {
                None => own,
                Some(all) => all
                    .into_iter()
                    .filter(|group| own.binary_search(group).is_ok())
                    .collect(),
            });
        }
        let groups = groups.unwrap_or_default();
        let tracks: Vec<u32> = terms
            .iter()
            .map(|term| self.track_groups(model.terms[*term].topology_key, None, &groups, at))
            .collect();
        self.affinity_tracks.insert(peers, tracks.clone());
        tracks
    }

    fn spread(&mut self, peers: u32, constraint: u32, namespace: Sym, at: &Positions) -> Vec<SpreadTrack> {
        let model = self.view.model;
        let rules = &model.peers[peers].spread;
        if rules.is_empty() {
            return Vec::new();
        }
        let key = (peers, constraint, namespace);
        if let Some(tracks) = self.spread_tracks.get(&key) {
            return tracks.clone();
        }
        let mut required: Vec<Sym> = rules.iter().map(|spread| spread.topology_key).collect();
        required.sort_unstable();
        required.dedup();
        let mut tracks = Vec::new();
        for spread in rules {
            let domains = self.domains(DomainKey {
                key: spread.topology_key,
                required: required.clone(),
                constraint: (spread.honor_affinity || spread.honor_taints).then_some(constraint),
                honor_affinity: spread.honor_affinity,
                honor_taints: spread.honor_taints,
            });
            let groups = match &spread.selector {
                Some(selector) => self.groups_in(namespace, selector),
                None => Vec::new(),
            };
            tracks.push(SpreadTrack {
                track: self.track_groups(spread.topology_key, Some(domains), &groups, at),
                domains,
                max_skew: spread.max_skew,
                min_domains: spread.min_domains,
                fewest: 0,
            });
        }
        self.spread_tracks.insert(key, tracks.clone());
        tracks
    }

    /// The rule between pods that a pod with this sheet would break on that node.
    pub(in super::super) fn breach(&self, sheet: u32, rank: u32) -> Option<Breach> {
        let sheet = self.sheets.get(sheet as usize)?;
        let track = |track: &u32| &self.tracks[*track as usize];
        // Whether the track counts a pod in the node's domain; `None` if the node is in none.
        let here = |one: &u32| {
            let track = track(one);
            let domain = self.columns[track.column as usize][rank as usize];
            domain.map(|domain| track.counts.contains(domain))
        };
        let unwanted = |one: &u32| here(one) == Some(true);
        if sheet.against.iter().any(unwanted) || sheet.anti.iter().any(unwanted) {
            return Some(Breach::Affinity);
        }
        if sheet.affinity.iter().any(|one| here(one).is_none()) {
            return Some(Breach::Affinity);
        }
        let accompanied = sheet.affinity.iter().all(|one| here(one) == Some(true));
        // The first of a group whose pods want to be together may go anywhere.
        let first = || sheet.may_lead && sheet.affinity.iter().all(|one| track(one).counts.is_empty());
        if !accompanied && !first() {
            return Some(Breach::Affinity);
        }
        let skewed = sheet.spread.iter().any(|(spread, itself)| {
            let track = track(&spread.track);
            self.columns[track.column as usize][rank as usize]
                .is_none_or(|domain| track.counts.get(domain) + itself - spread.fewest > spread.max_skew)
        });
        skewed.then_some(Breach::Spread)
    }
}
