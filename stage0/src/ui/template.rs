//! `--format`: a line for each row, with the row's fields in it, in the words docker's users know.
//!
//! `{{.Field}}` is a cell, `{{json .Field}}` the same as a JSON string, `{{json .}}` the whole row;
//! `table …` puts headings above and lines up what stands between `\t`. It is no language: there
//! are no conditions and no functions, and what is none of these is refused.

use serde_json::Value;

use crate::error::{CommandError, Result};

/// A template, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    shape: Shape,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Lines,
    Table,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Cell(usize),
    JsonCell(usize),
    JsonRow,
}

/// A row to be written: its cells, in the order of the fields, and all of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    pub(crate) whole: Value,
}

impl Template {
    /// Reads a template of rows that have `fields`; several names of one field are cut by `|`.
    ///
    /// # Errors
    ///
    /// A usage error that names the word, with the list of fields.
    pub(crate) fn parse(text: &str, fields: &[&str]) -> Result<Self> {
        let (shape, mut rest) = match text.strip_prefix("table ") {
            Some(rest) => (Shape::Table, rest),
            None => (Shape::Lines, text),
        };
        let mut parts = Vec::new();
        while let Some(begin) = rest.find("{{") {
            let Some(length) = rest[begin..].find("}}") else {
                return Err(CommandError::usage(format!(
                    "`{text}` has a `{{{{` that does not end"
                )));
            };
            if begin > 0 {
                parts.push(Part::Text(unescape(&rest[..begin])));
            }
            parts.push(part(rest[begin + 2..begin + length].trim(), fields)?);
            rest = &rest[begin + length + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(unescape(rest)));
        }
        Ok(Self { shape, parts })
    }

    /// Writes the rows.
    pub(crate) fn render(&self, fields: &[&str], rows: &[Row]) -> String {
        if self.shape == Shape::Lines {
            return rows.iter().map(|row| self.line(row) + "\n").collect();
        }
        let names = fields.iter().map(|field| first(field).to_uppercase()).collect();
        let headings = Row { cells: names, whole: Value::Null };
        let cut = |row: &Row| self.line(row).split('\t').map(str::to_owned).collect();
        let headings: Vec<String> = cut(&headings);
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(cut).collect();
        super::table(&headings, &rows)
    }

    fn line(&self, row: &Row) -> String {
        let json = |value: &Value| value.to_string();
        let write = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Cell(at) => row.cells[*at].clone(),
            Part::JsonCell(at) if row.whole.is_null() => row.cells[*at].clone(), // a heading
            Part::JsonCell(at) => json(&Value::from(row.cells[*at].as_str())),
            Part::JsonRow => json(&row.whole),
        };
        self.parts.iter().map(write).collect()
    }
}

fn first(field: &str) -> &str {
    field.split('|').next().unwrap_or(field)
}

fn part(word: &str, fields: &[&str]) -> Result<Part> {
    let (json, name) = match word.strip_prefix("json ") {
        Some(rest) => (true, rest.trim()),
        None => (false, word),
    };
    if json && name == "." {
        return Ok(Part::JsonRow);
    }
    let named = name.strip_prefix('.');
    let at = named.and_then(|name| {
        fields.iter().position(|field| field.split('|').any(|known| known == name))
    });
    match at {
        Some(at) if json => Ok(Part::JsonCell(at)),
        Some(at) => Ok(Part::Cell(at)),
        None => {
            let known: Vec<String> =
                fields.iter().map(|field| format!("{{{{.{}}}}}", first(field))).collect();
            Err(CommandError::usage(format!("`{{{{{word}}}}}` is no field of a row"))
                .hint(format!("`--format` takes {} and {{{{json .}}}}", known.join(", "))))
        }
    }
}

/// Reads `\t` and `\n`, which shells hand over as they are.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 2] = ["ID", "Name|Names"];

    fn render(text: &str) -> String {
        let row = |id: &str, name: &str| Row {
            cells: vec![id.to_owned(), name.to_owned()],
            whole: serde_json::json!({ "uuid": id }),
        };
        let rows = [row("1", "a"), row("22", "b\"")];
        Template::parse(text, &FIELDS).unwrap().render(&FIELDS, &rows)
    }

    #[test]
    fn a_row_is_a_line_with_its_fields_in_it() {
        let table = [
            ("{{.ID}}", "1\n22\n"),
            ("{{ .Names }} of {{.ID}}!", "a of 1!\nb\" of 22!\n"),
            (
                "{{json .Name}}\\t{{json .}}",
                "\"a\"\t{\"uuid\":\"1\"}\n\"b\\\"\"\t{\"uuid\":\"22\"}\n",
            ),
            ("table {{.Name}}\\t{{.ID}}", "NAME  ID\na     1\nb\"    22\n"),
            ("", "\n\n"),
        ];
        for (text, expected) in table {
            assert_eq!(render(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_field_is_refused_with_the_list() {
        for text in ["{{.Size}}", "{{ID}}", "{{upper .ID}}", "{{}}", "{{json}}", "{{.ID"] {
            assert!(Template::parse(text, &FIELDS).is_err(), "{text}");
        }
        let error = Template::parse("{{.Size}}", &FIELDS).unwrap_err();
        assert_eq!(error.to_string(), "`{{.Size}}` is no field of a row");
        assert_eq!(error.report().hints, ["`--format` takes {{.ID}}, {{.Name}} and {{json .}}"]);
    }
}
