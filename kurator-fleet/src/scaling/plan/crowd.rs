//! Rules between pods, counted by topology domain as pods move.
//!
//! A *track* counts the pods some selector finds, by the value of one topology label. Tracks are made when a moving
//! pod first needs them, so rules of pods that stay cost nothing, except that anti-affinity of those that stay binds
//! those that come.

use super::view::{NONE, View};
use crate::scaling::model::{
    constraint::{Effect, Taint},
    labels::Selector,
    node::UNSCHEDULABLE_TAINT,
    peers::Term,
    symbols::{Map, Sym, id},
};

/// Pods by the value of a topology label; no entry is zero.
type Counts = Map<Sym, i64>;

fn count(counts: &mut Counts, domain: Sym, change: i64) {
    let entry = counts.entry(domain).or_insert(0);
    *entry += change;
    if *entry == 0 {
        counts.remove(&domain);
    }
}

#[derive(Debug)]
struct Track {
    key: Sym,
    counts: Counts,
    /// For spread: the nodes whose domains count.
    domains: Option<u32>,
}

/// The nodes, and so the domains, that a spread constraint looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct DomainKey {
    key: Sym,
    /// A node without one of these labels does not count.
    required: Vec<Sym>,
    /// With whose selector or tolerations, if they matter.
    constraint: Option<u32>,
    honor_affinity: bool,
    honor_taints: bool,
}

#[derive(Debug)]
struct Domains {
    rule: DomainKey,
    eligible: Vec<bool>,
    nodes: Counts,
}

#[derive(Debug)]
struct SpreadTrack {
    track: u32,
    domains: u32,
    max_skew: i64,
    min_domains: i64,
}

pub(super) struct Crowd<'v, 'm> {
    view: &'v View<'m>,
    /// First place of each group in `pods_by_group`; empty until needed.
    group_starts: Vec<u32>,
    pods_by_group: Vec<u32>,
    tracks: Vec<Track>,
    tracks_of_group: Map<u32, Vec<u32>>,
    /// Pods that hold an anti-affinity term, by domain.
    holders: Map<u32, Counts>,
    held_by_label: Map<(Sym, Sym), Vec<u32>>,
    held_by_any: Vec<u32>,
    /// Held anti-affinity terms that select a group.
    held_against: Map<u32, Vec<u32>>,
    anti_tracks: Map<u32, u32>,
    affinity_tracks: Map<u32, Vec<u32>>,
    spread_tracks: Map<(u32, u32, Sym), Vec<SpreadTrack>>,
    domains: Vec<Domains>,
    domain_ids: Map<DomainKey, u32>,
    gone: Vec<bool>,
    cordoned: Vec<bool>,
    unschedulable: Option<Taint>,
}

impl<'v, 'm> Crowd<'v, 'm> {
    pub(super) fn new(view: &'v View<'m>) -> Self {
        let model = view.model;
        let empty: Vec<bool> = model
            .peers
            .iter()
            .map(|(_, peers)| peers.anti_affinity.is_empty())
            .collect();
        let mut holders: Map<u32, Counts> = Map::default();
        if empty.contains(&false) {
            for (at, pod) in model.pods.iter() {
                if empty[pod.peers as usize] || !pod.holds_room() || view.node_of_pod[at as usize] == NONE {
                    continue;
                }
                let node = view.node(view.node_of_pod[at as usize]);
                for term in &model.peers[pod.peers].anti_affinity {
                    if let Some(domain) = node.labels.get(model.terms[*term].topology_key) {
                        count(holders.entry(*term).or_default(), domain, 1);
                    }
                }
            }
        }
        let mut held_by_label: Map<(Sym, Sym), Vec<u32>> = Map::default();
        let mut held_by_any = Vec::new();
        for (at, term) in model.terms.iter() {
            let Some(selector) = term.selector.as_ref().filter(|_| holders.contains_key(&at)) else {
                continue;
            };
            match selector.anchor() {
                Some(pairs) => pairs.for_each(|pair| held_by_label.entry(pair).or_default().push(at)),
                None => held_by_any.push(at),
            }
        }
        let unschedulable = model
            .symbols
            .find(UNSCHEDULABLE_TAINT)
            .zip(model.symbols.find(""))
            .map(|(key, value)| Taint {
                key,
                value,
                effect: Effect::NoSchedule,
            });
        Self {
            view,
            group_starts: Vec::new(),
            pods_by_group: Vec::new(),
            tracks: Vec::new(),
            tracks_of_group: Map::default(),
            holders,
            held_by_label,
            held_by_any,
            held_against: Map::default(),
            anti_tracks: Map::default(),
            affinity_tracks: Map::default(),
            spread_tracks: Map::default(),
            domains: Vec::new(),
            domain_ids: Map::default(),
            gone: vec![false; view.len()],
            cordoned: vec![false; view.len()],
            unschedulable,
        }
    }

    pub(super) fn add(&mut self, pod: u32, rank: u32) {
        self.change(pod, rank, 1);
    }

    pub(super) fn remove(&mut self, pod: u32, rank: u32) {
        self.change(pod, rank, -1);
    }

    fn change(&mut self, pod: u32, rank: u32, change: i64) {
        let record = self.view.pod(pod);
        if self.gone[rank as usize] || !record.holds_room() {
            return;
        }
        let model = self.view.model;
        let node = self.view.node(rank);
        for track in self.tracks_of_group.get(&record.group).into_iter().flatten() {
            let track = &mut self.tracks[*track as usize];
            if let Some(domains) = track.domains
                && (record.terminating || !self.domains[domains as usize].eligible[rank as usize])
            {
                continue;
            }
            if let Some(domain) = node.labels.get(track.key) {
                count(&mut track.counts, domain, change);
            }
        }
        for term in &model.peers[record.peers].anti_affinity {
            if let Some(domain) = node.labels.get(model.terms[*term].topology_key) {
                count(self.holders.entry(*term).or_default(), domain, change);
            }
        }
    }

    pub(super) fn set_gone(&mut self, rank: u32, gone: bool, here: &[u32]) {
        if gone {
            here.iter().for_each(|pod| self.remove(*pod, rank));
        }
        self.gone[rank as usize] = gone;
        self.refresh(rank, &[]);
        if !gone {
            here.iter().for_each(|pod| self.add(*pod, rank));
        }
    }

    pub(super) fn set_cordoned(&mut self, rank: u32, cordoned: bool, here: &[u32]) {
        self.cordoned[rank as usize] = cordoned;
        self.refresh(rank, here);
    }

    /// Works out anew in which domain sets a node is; `here` are the pods whose counting depends on it.
    fn refresh(&mut self, rank: u32, here: &[u32]) {
        for at in 0..id(self.domains.len()) {
            let before = self.domains[at as usize].eligible[rank as usize];
            let after = self.is_eligible(&self.domains[at as usize].rule, rank);
            if before == after {
                continue;
            }
            if before {
                self.recount(at, rank, here, -1);
            }
            let domains = &mut self.domains[at as usize];
            domains.eligible[rank as usize] = after;
            if let Some(domain) = self.view.node(rank).labels.get(domains.rule.key) {
                count(&mut domains.nodes, domain, if after { 1 } else { -1 });
            }
            if after {
                self.recount(at, rank, here, 1);
            }
        }
    }

    fn recount(&mut self, domains: u32, rank: u32, here: &[u32], change: i64) {
        let node = self.view.node(rank);
        for pod in here {
            let record = self.view.pod(*pod);
            if record.terminating || !record.holds_room() {
                continue;
            }
            for track in self.tracks_of_group.get(&record.group).into_iter().flatten() {
                let track = &mut self.tracks[*track as usize];
                if track.domains == Some(domains)
                    && let Some(domain) = node.labels.get(track.key)
                {
                    count(&mut track.counts, domain, change);
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
        if rule.honor_taints {
            let tolerates_cordon = match self.unschedulable {
                Some(taint) => constraint.tolerates(taint),
                None => constraint
                    .tolerations
                    .iter()
                    .any(|toleration| toleration.tolerates_everything()),
            };
            return constraint.tolerates_all(&node.taints)
                && (!self.cordoned[rank as usize] || tolerates_cordon);
        }
        true
    }

    /// Makes the tracks the pod needs, from where every pod is now.
    pub(super) fn prepare(&mut self, pod: u32, at: &[u32]) {
        let record = self.view.pod(pod);
        let model = self.view.model;
        let (group, namespace) = match model.groups.get(record.group as usize) {
            Some(group) => (record.group, group.namespace),
            None => return,
        };
        if !self.held_against.contains_key(&group) {
            let terms = self.terms_against(group);
            self.held_against.insert(group, terms);
        }
        let peers = &model.peers[record.peers];
        if peers.is_empty() {
            return;
        }
        for term in &peers.anti_affinity {
            if !self.anti_tracks.contains_key(term) {
                let term_record = &model.terms[*term];
                let groups = self.groups_of_term(term_record, true);
                let track = self.make_track(term_record.topology_key, None, &groups, at);
                self.anti_tracks.insert(*term, track);
            }
        }
        if !peers.affinity.is_empty() && !self.affinity_tracks.contains_key(&record.peers) {
            // A pod counts for any of the terms only if it matches all of them.
            let mut groups: Option<Vec<u32>> = None;
            for term in &peers.affinity {
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
            let tracks = peers
                .affinity
                .iter()
                .map(|term| self.make_track(model.terms[*term].topology_key, None, &groups, at))
                .collect();
            self.affinity_tracks.insert(record.peers, tracks);
        }
        let key = (record.peers, record.constraint, namespace);
        if !peers.spread.is_empty() && !self.spread_tracks.contains_key(&key) {
            let mut required: Vec<Sym> = peers.spread.iter().map(|spread| spread.topology_key).collect();
            required.sort_unstable();
            required.dedup();
            let mut tracks = Vec::new();
            for spread in &peers.spread {
                let domains = self.domains(DomainKey {
                    key: spread.topology_key,
                    required: required.clone(),
                    constraint: (spread.honor_affinity || spread.honor_taints).then_some(record.constraint),
                    honor_affinity: spread.honor_affinity,
                    honor_taints: spread.honor_taints,
                });
                let groups = match &spread.selector {
                    Some(selector) => self.groups_in(namespace, selector),
                    None => Vec::new(),
                };
                tracks.push(SpreadTrack {
                    track: self.make_track(spread.topology_key, Some(domains), &groups, at),
                    domains,
                    max_skew: spread.max_skew,
                    min_domains: spread.min_domains,
                });
            }
            self.spread_tracks.insert(key, tracks);
        }
    }

    fn domains(&mut self, rule: DomainKey) -> u32 {
        if let Some(at) = self.domain_ids.get(&rule) {
            return *at;
        }
        let mut nodes = Counts::default();
        let mut eligible = vec![false; self.view.len()];
        for rank in self.view.ranks() {
            if self.is_eligible(&rule, rank) {
                eligible[rank as usize] = true;
                if let Some(domain) = self.view.node(rank).labels.get(rule.key) {
                    count(&mut nodes, domain, 1);
                }
            }
        }
        let at = id(self.domains.len());
        self.domains.push(Domains {
            rule: rule.clone(),
            eligible,
            nodes,
        });
        self.domain_ids.insert(rule, at);
        at
    }

    fn make_track(&mut self, key: Sym, domains: Option<u32>, groups: &[u32], at: &[u32]) -> u32 {
        self.index_groups();
        let mut counts = Counts::default();
        let number = id(self.tracks.len());
        for group in groups {
            let start = self.group_starts[*group as usize] as usize;
            let end = self.group_starts[*group as usize + 1] as usize;
            for pod in &self.pods_by_group[start..end] {
                let rank = at[*pod as usize];
                let record = self.view.pod(*pod);
                if rank == NONE || self.gone[rank as usize] || !record.holds_room() {
                    continue;
                }
                if let Some(domains) = domains
                    && (record.terminating || !self.domains[domains as usize].eligible[rank as usize])
                {
                    continue;
                }
                if let Some(domain) = self.view.node(rank).labels.get(key) {
                    count(&mut counts, domain, 1);
                }
            }
            self.tracks_of_group.entry(*group).or_default().push(number);
        }
        self.tracks.push(Track { key, counts, domains });
        number
    }

    fn index_groups(&mut self) {
        if !self.group_starts.is_empty() {
            return;
        }
        let model = self.view.model;
        let mut starts = vec![0u32; model.groups.len() + 1];
        for (_, pod) in model.pods.iter() {
            starts[pod.group as usize + 1] += 1;
        }
        for group in 0..model.groups.len() {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut pods = vec![0; starts.last().copied().unwrap_or(0) as usize];
        for (at, pod) in model.pods.iter() {
            let place = &mut next[pod.group as usize];
            pods[*place as usize] = at;
            *place += 1;
        }
        self.group_starts = starts;
        self.pods_by_group = pods;
    }

    /// Anti-affinity terms that some pod holds and that select the group.
    fn terms_against(&self, group: u32) -> Vec<u32> {
        let model = self.view.model;
        let Some(record) = model.groups.get(group as usize) else {
            return Vec::new();
        };
        let labels = &model.labels[record.labels];
        let by_label = labels
            .0
            .iter()
            .filter_map(|pair| self.held_by_label.get(pair))
            .flatten();
        by_label
            .chain(&self.held_by_any)
            .copied()
            .filter(|term| {
                let term = &model.terms[*term];
                self.in_namespaces(term, record.namespace, true)
                    && term
                        .selector
                        .as_ref()
                        .is_some_and(|selector| selector.matches(labels))
            })
            .collect()
    }

    /// Whether a term looks at pods of a namespace; one without known labels is as `unknown` says.
    fn in_namespaces(&self, term: &Term, namespace: Sym, unknown: bool) -> bool {
        if term.namespaces.contains(&namespace) {
            return true;
        }
        term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.0.is_empty()
                || self
                    .view
                    .model
                    .namespaces
                    .get(&namespace)
                    .map_or(unknown, |labels| selector.matches(labels))
        })
    }

    fn groups_of_term(&self, term: &Term, unknown: bool) -> Vec<u32> {
        let model = self.view.model;
        let Some(selector) = &term.selector else {
            return Vec::new();
        };
        let mut groups: Vec<u32> = Vec::new();
        if term.namespace_selector.is_none() {
            for namespace in &term.namespaces {
                groups.extend(self.groups_in(*namespace, selector));
            }
        } else {
            for namespace in model.groups_by_namespace.keys() {
                if self.in_namespaces(term, *namespace, unknown) {
                    groups.extend(self.groups_in(*namespace, selector));
                }
            }
        }
        groups.sort_unstable();
        groups
    }

    fn groups_in(&self, namespace: Sym, selector: &Selector) -> Vec<u32> {
        let model = self.view.model;
        let found: Vec<u32> = match selector.anchor() {
            Some(pairs) => pairs
                .filter_map(|(key, value)| model.groups_by_label.get(&(namespace, key, value)))
                .flatten()
                .copied()
                .collect(),
            None => model
                .groups_by_namespace
                .get(&namespace)
                .cloned()
                .unwrap_or_default(),
        };
        found
            .into_iter()
            .filter(|group| {
                let group = model.groups.get(*group as usize);
                group.is_some_and(|group| selector.matches(&model.labels[group.labels]))
            })
            .collect()
    }

    /// Whether no required affinity or anti-affinity, of the pod or against it, is broken on that node.
    pub(super) fn affinity_fits(&self, pod: u32, rank: u32) -> bool {
        let record = self.view.pod(pod);
        let model = self.view.model;
        let labels = &self.view.node(rank).labels;
        for term in self.held_against.get(&record.group).into_iter().flatten() {
            let domain = labels.get(model.terms[*term].topology_key);
            if let (Some(domain), Some(holders)) = (domain, self.holders.get(term))
                && holders.contains_key(&domain)
            {
                return false;
            }
        }
        let peers = &model.peers[record.peers];
        for term in &peers.anti_affinity {
            let Some(track) = self
                .anti_tracks
                .get(term)
                .map(|track| &self.tracks[*track as usize])
            else {
                continue;
            };
            if labels
                .get(track.key)
                .is_some_and(|domain| track.counts.contains_key(&domain))
            {
                return false;
            }
        }
        let Some(tracks) = self.affinity_tracks.get(&record.peers) else {
            return true;
        };
        let tracks = || tracks.iter().map(|track| &self.tracks[*track as usize]);
        if tracks().any(|track| labels.get(track.key).is_none()) {
            return false;
        }
        if tracks().all(|track| {
            labels
                .get(track.key)
                .is_some_and(|domain| track.counts.contains_key(&domain))
        }) {
            return true;
        }
        // The first of a group whose pods want to be together may go anywhere.
        let own = self.tracks_of_group.get(&record.group);
        let selects_itself = self
            .affinity_tracks
            .get(&record.peers)
            .is_some_and(|all| all.iter().all(|track| own.is_some_and(|own| own.contains(track))));
        selects_itself && tracks().all(|track| track.counts.is_empty())
    }

    /// Whether every hard spread constraint of the pod holds on that node.
    pub(super) fn spread_fits(&self, pod: u32, rank: u32) -> bool {
        let record = self.view.pod(pod);
        let Some(tracks) = self
            .spread_tracks
            .get(&(record.peers, record.constraint, record.namespace))
        else {
            return true;
        };
        let own = self.tracks_of_group.get(&record.group);
        tracks.iter().all(|spread| {
            let track = &self.tracks[spread.track as usize];
            let Some(domain) = self.view.node(rank).labels.get(track.key) else {
                return false;
            };
            let domains = &self.domains[spread.domains as usize].nodes;
            let known = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
            let fewest = if known(domains.len()) < spread.min_domains || track.counts.len() < domains.len() {
                0
            } else {
                track.counts.values().copied().min().unwrap_or(0)
            };
            let itself = i64::from(own.is_some_and(|own| own.contains(&spread.track)));
            let here = track.counts.get(&domain).copied().unwrap_or(0);
            here + itself - fewest <= spread.max_skew
        })
    }
}
