//! "Did you mean": the nearest known word.

/// A hint that names the nearest word, if one is near.
pub(crate) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(text, known).map(|word| format!("did you mean `{word}`?"))
}

/// The nearest word, if one is near.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long texts are no typing errors, and the distance costs the product of the lengths.
    if text.len() > 64 {
        return None;
    }
    let limit = (text.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
