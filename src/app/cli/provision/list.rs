//! The list of a shop's tills: CSV as a spreadsheet saves it. Pure.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};

use super::{TillOptions, hostname};

/// The tills with the lines that they stand in. Columns by the names of the first line, in any order, separated by commas or
/// semicolons: `posId`, and `posName`, `address`, `mac` where wanted.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<(usize, TillOptions)>> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let Some((_, head)) = lines.next() else { bail!("the list is empty") };
    let separator = if head.contains(';') { ';' } else { ',' };
    let names = fields(head, separator)?;
    for name in &names {
        ensure!(
            ["posId", "posName", "address", "mac"].contains(&name.as_str()),
            "no such column: {name:?} (posId, posName, address, mac)"
        );
    }
    ensure!(names.iter().any(|name| name == "posId"), "the first line names no column posId");
    let mut tills = Vec::new();
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = at + 1;
        let values = fields(line, separator)?;
        ensure!(values.len() <= names.len(), "line {line_number}: more fields than the first line");
        let mut till = TillOptions::default();
        for (name, value) in names.iter().zip(values) {
            let value = value.trim().to_owned();
            let some = (!value.is_empty()).then(|| value.clone());
            match name.as_str() {
                "posId" => till.pos_id = value,
                "posName" => till.pos_name = some,
                "address" => till.address = some,
                _ => {
                    till.mac = some
                        .map(|mac| normal_mac(&mac))
                        .transpose()
                        .map_err(|e| e.context(format!("line {line_number}")))?
                }
            }
        }
        tills.push((line_number, till));
    }
    unique(&tills)?;
    Ok(tills)
}

/// Two tills of one name, address or interface are a mistake of whoever filled in the list.
fn unique(tills: &[(usize, TillOptions)]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for (line, till) in tills {
        let address = till.address.as_deref().and_then(|address| address.split('/').next());
        for (what, value) in [
            ("name in the network", Some(hostname(&till.pos_id))),
            ("address", address.map(str::to_owned)),
            ("mac", till.mac.clone()),
        ] {
            let Some(value) = value else { continue };
            ensure!(seen.insert((what, value.clone())), "line {line}: another till has the {what} {value}");
        }
    }
    Ok(())
}

fn fields(line: &str, separator: char) -> anyhow::Result<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            c if c == separator && !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    ensure!(!quoted, "a quote is not closed: {line}");
    fields.push(field);
    Ok(fields)
}

/// As the kernel writes it: `B8-27-EB-00-00-01` and `b827eb000001` are what labels and routers show.
fn normal_mac(text: &str) -> anyhow::Result<String> {
    let digits: String = text.chars().filter(|c| !":-. ".contains(*c)).collect();
    ensure!(digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "no hardware address: {text:?}");
    let digits = digits.to_ascii_lowercase();
    Ok((0..6).map(|pair| &digits[2 * pair..2 * pair + 2]).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreadsheets_of_all_kinds_are_read() {
        let till = |id: &str, name: Option<&str>, mac: Option<&str>| TillOptions {
            pos_id: id.into(),
            pos_name: name.map(Into::into),
            address: None,
            mac: mac.map(Into::into),
        };
        let wanted = vec![
            (2, till("POS-1", Some("Caisse \"A\"; 1"), Some("b8:27:eb:00:00:01"))),
            (4, till("POS-2", None, None)),
        ];
        let text = "\u{feff}mac;posId;posName\r\nB8-27-EB-00-00-01;POS-1;\"Caisse \"\"A\"\"; 1\"\r\n\r\n;POS-2\r\n";
        assert_eq!(read(text).unwrap(), wanted);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("", "empty"),
            ("name\nx", "no such column"),
            ("posName\nx", "no column posId"),
            ("posId,mac\nPOS-1,12:34", "line 2"),
            ("posId\nPOS-1,2", "more fields"),
            ("posId\nPOS-1\nPOS_1", "line 3: another till"),
            ("posId,address\nA,10.0.0.1\nB,10.0.0.1/24", "the address 10.0.0.1"),
            ("posId\n\"POS-1", "not closed"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }
}
