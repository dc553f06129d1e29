//! How many chunks, and of which size.

/// A table of fewer pages (16 MiB) is one chunk: another connection costs more than it saves.
const SMALL: u64 = 2048;
/// The pages of a chunk of a large table: 64 MiB.
const LARGE_CHUNK: u64 = 8192;
/// The pages of a chunk at the least: 8 MiB.
const SMALL_CHUNK: u64 = 1024;
/// So many chunks a connection even out what chunks differ in.
const PER_CONNECTION: u64 = 4;
/// More tables than this are not read by one query.
const MAX_PARTS: usize = 64;

/// How many chunks are made of so many pages.
pub(super) fn chunks(pages: u64, parallelism: u32, most: u32) -> u32 {
    if pages < SMALL {
        return 1;
    }
    let evened = (PER_CONNECTION * u64::from(parallelism)).min(pages / SMALL_CHUNK);
    let chunks = pages.div_ceil(LARGE_CHUNK).max(evened).clamp(1, u64::from(most.max(1)));
    u32::try_from(chunks).unwrap_or(most)
}

/// A part of one of several tables: which one, and from which page on and below which; none of them for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) table: usize,
    pub(super) from: Option<u64>,
    pub(super) below: Option<u64>,
}

impl Part {
    const fn whole(table: usize) -> Self {
        Self { table, from: None, below: None }
    }

    /// Whether it is all of its table.
    pub(super) const fn is_whole(&self) -> bool {
        self.from.is_none() && self.below.is_none()
    }

    /// The condition on a table's pages. The first and the last part of a table are open.
    pub(super) fn condition(&self, alias: &str) -> Option<String> {
        let from = self.from.map(|page| format!("{alias}.ctid >= '({page},0)'::tid"));
        let below = self.below.map(|page| format!("{alias}.ctid < '({page},0)'::tid"));
        match (from, below) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(from), Some(below)) => Some(format!("{from} AND {below}")),
        }
    }
}

/// Makes chunks of tables: a table of more than `target` pages is several chunks, and small ones are joined to one. Each
/// table's pages; `None` where it has none that could be told, which makes it a chunk of its own.
pub(super) fn pack(tables: &[Option<u64>], target: u64) -> Vec<Vec<Part>> {
    let target = target.max(1);
    let mut chunks = Vec::new();
    let (mut open, mut filled) = (Vec::new(), 0);
    for (table, pages) in tables.iter().enumerate() {
        match pages {
            None => chunks.push(vec![Part::whole(table)]),
            // Half as much again does not make a second chunk.
            Some(pages) if pages.saturating_mul(2) >= target.saturating_mul(3) => {
                let pieces = (pages + target / 2) / target;
                let bound = |piece: u64| {
                    u64::try_from(u128::from(*pages) * u128::from(piece) / u128::from(pieces)).ok()
                };
                chunks.extend((0..pieces).map(|piece| {
                    let from = (piece > 0).then(|| bound(piece)).flatten();
                    let below = (piece + 1 < pieces).then(|| bound(piece + 1)).flatten();
                    vec![Part { table, from, below }]
                }));
            }
            Some(pages) => {
                open.push(Part::whole(table));
                filled += pages;
                if filled >= target || open.len() >= MAX_PARTS {
                    chunks.push(std::mem::take(&mut open));
                    filled = 0;
                }
            }
        }
    }
    if !open.is_empty() {
        chunks.push(open);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_PARTS, Part, SMALL, chunks, pack};

    #[test]
    fn large_tables_are_many_chunks_and_small_ones_are_one() {
        for (pages, parallelism, wanted) in [
            (0, 4, 1),
            (SMALL - 1, 256, 1),
            (SMALL, 4, 2),
            (4096, 1, 4),
            (20_000, 4, 16),
            (280_000, 4, 35),
            (u64::from(u32::MAX), 4, 10_000),
        ] {
            assert_eq!(chunks(pages, parallelism, 10_000), wanted, "{pages} pages by {parallelism}");
        }
        assert_eq!(chunks(u64::from(u32::MAX), 4, 0), 1);
    }

    #[test]
    fn conditions_are_open_at_both_ends() {
        let chunks = pack(&[Some(10), Some(100), None, Some(20)], 30);
        let part = |table, from, below| Part { table, from, below };
        assert_eq!(
            chunks,
            [
                vec![part(1, None, Some(33))],
                vec![part(1, Some(33), Some(66))],
                vec![part(1, Some(66), None)],
                vec![part(2, None, None)],
                vec![part(0, None, None), part(3, None, None)],
            ]
        );
        assert_eq!(
            chunks[1][0].condition("t").unwrap(),
            "t.ctid >= '(33,0)'::tid AND t.ctid < '(66,0)'::tid"
        );
        assert_eq!(chunks[0][0].condition("t").unwrap(), "t.ctid < '(33,0)'::tid");
        assert_eq!(chunks[3][0].condition("t"), None);
    }

    proptest! {
        #[test]
        fn each_page_is_in_one_chunk(
            tables in prop::collection::vec(prop::option::weighted(0.9, 0_u64..5000), 0..200),
            target in 1_u64..4000,
        ) {
            let packed = pack(&tables, target);
            prop_assert!(packed.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= MAX_PARTS));
            let mut parts: Vec<Part> = packed.into_iter().flatten().collect();
            parts.sort_by_key(|part| (part.table, part.from));
            let mut tables_seen = 0;
            let mut parts = parts.into_iter().peekable();
            while let Some(first) = parts.next() {
                prop_assert_eq!((first.table, first.from), (tables_seen, None));
                let mut last = first;
                while let Some(next) = parts.next_if(|part| part.table == first.table) {
                    prop_assert_eq!(next.from, last.below);
                    prop_assert!(last.below.is_some() && last.below > last.from);
                    last = next;
                }
                prop_assert_eq!(last.below, None);
                tables_seen += 1;
            }
            prop_assert_eq!(tables_seen, tables.len());
        }

        #[test]
        fn there_are_no_more_chunks_than_there_may_be(
            sizes in prop::collection::vec(0_u64..1_000_000, 1..300), parallelism in 1_u32..256, most in 1_u32..10_000,
        ) {
            let pages: u64 = sizes.iter().sum();
            let wanted = chunks(pages, parallelism, most);
            prop_assert!(wanted >= 1 && wanted <= most);
            let tables: Vec<Option<u64>> = sizes.iter().copied().map(Some).collect();
            let packed = pack(&tables, pages.div_ceil(u64::from(wanted)));
            let full = sizes.len() / MAX_PARTS;
            prop_assert!(packed.len() <= 2 * wanted as usize + full + 1, "{} of {wanted}", packed.len());
        }
    }
}
