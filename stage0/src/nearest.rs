//! What was probably meant by a word that is none: the known one that differs least.

/// Returns the candidate that differs least from `word`, if it is near enough to be meant.
pub(crate) fn nearest<'c>(word: &str, candidates: &'c [String]) -> Option<&'c str> {
    all_nearest(word, candidates).into_iter().min()
}

/// Returns the candidates that differ least from `word`, as far as they are near enough to be
/// meant.
pub(crate) fn all_nearest<'c>(word: &str, candidates: &'c [String]) -> Vec<&'c str> {
    let bound = word.len() / 3 + 1;
    let distances = candidates
        .iter()
        .map(|candidate| (distance(word, candidate), candidate.as_str()))
        .filter(|(distance, candidate)| (1..=bound.min(candidate.len() - 1)).contains(distance));
    let distances: Vec<(usize, &str)> = distances.collect();
    let least = distances.iter().map(|(distance, _)| *distance).min();
    let near = distances.into_iter().filter(|(distance, _)| Some(*distance) == least);
    near.map(|(_, candidate)| candidate).collect()
}

/// Counts the insertions, removals and replacements of bytes between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_enough_is_meant() {
        let names = ["web", "db", "rm", "run"].map(str::to_owned);
        for (word, meant) in
            [("wbe", Some("web")), ("rn", Some("rm")), ("something", None), ("web", None)]
        {
            assert_eq!(nearest(word, &names), meant, "{word}");
        }
        assert_eq!(all_nearest("rn", &names), ["rm", "run"]);
    }
}
