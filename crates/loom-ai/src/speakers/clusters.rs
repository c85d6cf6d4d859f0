//! Vectors of voices by the thousand, kept as some hundred clusters: a recording of ten hours takes no more memory than one of ten minutes,
//! but for two bytes a vector. What is merged is what lies closest on average (agglomerative, average linkage), which sums of unit vectors tell
//! exactly: the mean of all products of two clusters' vectors is the product of their sums over their sizes.

use crate::limits::MAX_VOICES;

/// The clusters so far, and which of them each vector is in.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    width: usize,
    /// The sum of each one's vectors.
    sums: Vec<Vec<f32>>,
    /// How many there are in each.
    sizes: Vec<f32>,
    /// For each vector, in order, its cluster.
    of: Vec<u16>,
}

/// Speakers, by their voices.
#[derive(Debug)]
pub(super) struct Speakers {
    /// For each cluster, how like it is to each speaker: the cosine.
    pub(super) likeness: Vec<Vec<f32>>,
}

impl Clusters {
    /// Which cluster each vector is in.
    pub(super) fn of(&self) -> &[u16] {
        &self.of
    }

    /// Takes a unit vector; `false` where it is none of the dimension of those before it.
    pub(super) fn add(&mut self, vector: &[f32]) -> bool {
        if self.sums.is_empty() {
            self.width = vector.len();
        }
        let long = dot(vector, vector);
        if vector.len() != self.width || !(0.9..1.1).contains(&long) {
            return false;
        }
        let nearest = self
            .sums
            .iter()
            .zip(&self.sizes)
            .zip(0u16..)
            .map(|((sum, size), at)| (dot(sum, vector) / size, at));
        let nearest = nearest
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|it| it.0 >= SAME);
        let at = match nearest {
            Some((_, at)) => {
                let at = usize::from(at);
                add(&mut self.sums[at], vector);
                self.sizes[at] += 1.0;
                at
            }
            None => {
                if self.sums.len() >= MAX_VOICES {
                    self.compact();
                }
                self.sums.push(vector.to_vec());
                self.sizes.push(1.0);
                self.sums.len() - 1
            }
        };
        self.of.push(at as u16);
        true
    }

    /// Merges the closest until half of them are left.
    fn compact(&mut self) {
        let groups = merged(&self.sums, &self.sizes, |left, _| left > MAX_VOICES / 2);
        let count = groups.iter().max().map_or(0, |it| it + 1);
        let mut sums = vec![vec![0.0; self.width]; count];
        let mut sizes = vec![0.0; count];
        for ((group, sum), size) in groups.iter().zip(&self.sums).zip(&self.sizes) {
            add(&mut sums[*group], sum);
            sizes[*group] += size;
        }
        (self.sums, self.sizes) = (sums, sizes);
        for it in &mut self.of {
            *it = groups[usize::from(*it)] as u16;
        }
    }

    /// Merges the closest while they are `alike`, and until there are at most `most`. Who has fewer than `least` vectors, as what lies
    /// between two speakers has, is no speaker where anybody is one.
    pub(super) fn speakers(&self, alike: f32, most: usize, least: f32) -> Speakers {
        let groups = merged(&self.sums, &self.sizes, |left, closest| {
            left > most || closest >= alike
        });
        let count = groups.iter().max().map_or(0, |it| it + 1);
        let mut voices = vec![(0.0, vec![0.0; self.width]); count];
        for ((group, sum), size) in groups.iter().zip(&self.sums).zip(&self.sizes) {
            add(&mut voices[*group].1, sum);
            voices[*group].0 += size;
        }
        let largest = voices.iter().map(|it| it.0).fold(0.0, f32::max);
        voices.retain(|it| it.0 >= least.min(largest));
        for (_, voice) in &mut voices {
            let long = dot(voice, voice).sqrt().max(f32::MIN_POSITIVE);
            voice.iter_mut().for_each(|it| *it /= long);
        }
        let likeness = self.sums.iter().map(|sum| {
            let long = dot(sum, sum).sqrt().max(f32::MIN_POSITIVE);
            voices.iter().map(|(_, voice)| dot(sum, voice) / long).collect()
        });
        Speakers {
            likeness: likeness.collect(),
        }
    }
}

/// For each cluster the number of the group that it comes into, from 0: the two groups that lie closest are merged as long as `goes_on`, which is
/// told how many there are and how close these two lie.
fn merged(sums: &[Vec<f32>], sizes: &[f32], goes_on: impl Fn(usize, f32) -> bool) -> Vec<usize> {
    let count = sums.len();
    let mut sizes = sizes.to_vec();
    let mut close: Vec<Vec<f32>> = sums
        .iter()
        .zip(&sizes)
        .map(|(a, n)| {
            sums.iter()
                .zip(&sizes)
                .map(|(b, m)| dot(a, b) / (n * m))
                .collect()
        })
        .collect();
    let mut group: Vec<usize> = (0..count).collect();
    let mut alive: Vec<usize> = (0..count).collect();
    let nearest = |close: &[Vec<f32>], alive: &[usize], of: usize| {
        let others = alive.iter().filter(|it| **it != of);
        others
            .copied()
            .max_by(|a, b| close[of][*a].total_cmp(&close[of][*b]))
    };
    let mut next: Vec<Option<usize>> = (0..count).map(|it| nearest(&close, &alive, it)).collect();
    while alive.len() > 1 {
        let pairs = alive.iter().filter_map(|a| Some((*a, next[*a]?)));
        let Some((a, b)) = pairs.max_by(|x, y| close[x.0][x.1].total_cmp(&close[y.0][y.1])) else {
            break;
        };
        if !goes_on(alive.len(), close[a][b]) {
            break;
        }
        let (a, b) = (a.min(b), a.max(b));
        // Lance and Williams 1967, for group averages
        for it in &alive {
            let joint = (sizes[a] * close[a][*it] + sizes[b] * close[b][*it]) / (sizes[a] + sizes[b]);
            (close[a][*it], close[*it][a]) = (joint, joint);
        }
        sizes[a] += sizes[b];
        alive.retain(|it| *it != b);
        group.iter_mut().filter(|it| **it == b).for_each(|it| *it = a);
        for it in &alive {
            if *it == a || next[*it] == Some(a) || next[*it] == Some(b) {
                next[*it] = nearest(&close, &alive, *it);
            } else if next[*it].is_some_and(|now| close[*it][a] > close[*it][now]) {
                next[*it] = Some(a);
            }
        }
    }
    group
        .iter()
        .map(|it| alive.binary_search(it).unwrap_or(0))
        .collect()
}

fn add(sum: &mut [f32], vector: &[f32]) {
    for (a, b) in sum.iter_mut().zip(vector) {
        *a += b;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Vectors as close as this are one at once.
const SAME: f32 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit vector near the axis of that number, turned aside a little by a seeded hand.
    fn voice(axis: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut vector: Vec<f32> = (0..16)
            .map(|it| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let noise = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                noise * 0.5 + if it == axis { 1.0 } else { 0.0 }
            })
            .collect();
        let long = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|it| *it /= long);
        vector
    }

    fn best(speakers: &Speakers, cluster: u16) -> usize {
        let row = &speakers.likeness[usize::from(cluster)];
        (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap()
    }

    #[test]
    fn each_voice_is_one_speaker_however_many_vectors_there_are() {
        for count in [30, 3_000] {
            let mut clusters = Clusters::default();
            for it in 0..count {
                assert!(clusters.add(&voice(it % 3, it as u64 + 1)));
            }
            assert!(clusters.sums.len() <= MAX_VOICES && clusters.of().len() == count);
            let speakers = clusters.speakers(0.5, 10, 2.0);
            assert_eq!(speakers.likeness[0].len(), 3, "of {count} vectors");
            let first: Vec<usize> = (0..3).map(|it| best(&speakers, clusters.of()[it])).collect();
            for (it, cluster) in clusters.of().iter().enumerate() {
                assert_eq!(best(&speakers, *cluster), first[it % 3], "vector {it} of {count}");
            }
        }
    }

    #[test]
    fn there_are_no_more_speakers_than_may_be_and_none_that_hardly_speaks() {
        let mut clusters = Clusters::default();
        for it in 0..40 {
            clusters.add(&voice(it % 4, it as u64 + 1));
        }
        clusters.add(&voice(9, 5));
        assert_eq!(clusters.speakers(0.5, 10, 2.0).likeness[0].len(), 4);
        assert_eq!(clusters.speakers(0.5, 10, 0.0).likeness[0].len(), 5);
        assert_eq!(clusters.speakers(0.5, 2, 2.0).likeness[0].len(), 2);
    }

    #[test]
    fn what_is_no_unit_vector_of_the_same_dimension_is_refused() {
        let mut clusters = Clusters::default();
        assert!(clusters.add(&[1.0, 0.0]));
        for bad in [&[1.0][..], &[0.0, 0.0], &[f32::NAN, 0.0], &[3.0, 0.0]] {
            assert!(!clusters.add(bad), "{bad:?}");
        }
        assert_eq!(clusters.of(), [0]);
        assert!(Clusters::default().speakers(0.5, 10, 2.0).likeness.is_empty());
    }
}
