//! Folding of texts for search: small letters without accents. Pure.
//!
//! The folded text of an entity is stored with it, so a change of these rules needs a migration that folds all rows again.

/// The most characters that are searched of one entity.
const FOLDED_CHARS_MAX: usize = 1024;

/// The text to search in, of several: one per line, so that nothing is found across two.
pub(super) fn folded_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut folded = String::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        if !folded.is_empty() {
            folded.push('\n');
        }
        fold_into(text, &mut folded);
    }
    if let Some((end, _)) = folded.char_indices().nth(FOLDED_CHARS_MAX) {
        folded.truncate(end);
    }
    folded
}

/// The text to search for: folded, without space around it.
pub(super) fn folded(text: &str) -> String {
    let mut folded = String::new();
    fold_into(text.trim(), &mut folded);
    folded
}

fn fold_into(text: &str, folded: &mut String) {
    for letter in text.chars().take(FOLDED_CHARS_MAX).flat_map(char::to_lowercase) {
        match base(letter) {
            Some(base) => folded.push_str(base),
            None => folded.push(letter),
        }
    }
}

/// What a small letter of the blocks Latin-1 and Latin Extended-A, or a combining accent, is without its accent. `None`: as it is.
fn base(letter: char) -> Option<&'static str> {
    Some(match letter {
        '\u{300}'..='\u{36f}' => "",
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ð' | 'ď' | 'đ' => "d",
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'ĳ' => "ij",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => "o",
        'œ' => "oe",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ß' => "ss",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'þ' => "th",
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_and_capitals_do_not_matter() {
        assert_eq!(folded(" CAFÉ Crème "), "cafe creme");
        assert_eq!(folded("Cafe\u{301}"), "cafe");
        assert_eq!(folded("Œuf, Straße, İzmir, Łódź, Ţ"), "oeuf, strasse, izmir, lodz, t");
        assert_eq!(folded("قهوة عربية"), "قهوة عربية");
    }

    #[test]
    fn texts_are_searched_one_by_one_and_not_without_end() {
        assert_eq!(folded_all(["Thé", "", "A-1"]), "the\na-1");
        assert_eq!(folded_all(["ß".repeat(5_000).as_str()]).chars().count(), FOLDED_CHARS_MAX);
    }
}
