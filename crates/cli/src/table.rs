//! Tables that fit: the widest columns give way first, and lose their middle.

use crate::{
    text::middle,
    ui::{Tone, Ui},
};

/// The narrowest a column gets before the next one gives way.
const NARROW: usize = 8;
/// The narrowest that a column which yields gets before the others give way: still two ends of a host to tell it by.
const YIELDED: usize = 16;
/// Between columns.
const GAP: usize = 2;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A field in a tone.
pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Cell {
    Cell { text: text.into(), tone }
}

/// Rows under titles.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// What to say instead of titles without rows.
    empty: &'static str,
    /// The column that is narrowed before all others, if there is one that matters less.
    yields: Option<usize>,
    /// Whether nothing is left out of a field, however wide that makes a line.
    whole: bool,
}

impl Table {
    /// A table with these columns, which says `empty` if it has no rows.
    pub(crate) fn new(titles: &[&'static str], empty: &'static str) -> Self {
        Table { titles: titles.to_vec(), rows: Vec::new(), empty, yields: None, whole: false }
    }

    /// The same, whose column `title` gives way before all others.
    pub(crate) fn yielding(mut self, title: &str) -> Self {
        self.yields = self.titles.iter().position(|known| *known == title);
        self
    }

    /// The same, of which nothing is left out: for what is there to be copied, such as paths.
    pub(crate) const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Adds a row: one cell for each title.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.titles.len());
        self.rows.push(cells.into());
    }

    /// As text for a screen.
    pub(crate) fn show(&self, ui: &Ui) -> String {
        self.render(ui.width, ui.colour())
    }

    /// As text of at most `width` columns.
    pub(crate) fn render(&self, width: usize, colour: bool) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let widths = self.widths(width);
        let titles: Vec<Cell> = self.titles.iter().map(|title| toned(*title, Tone::Title)).collect();
        let mut out = line(&titles, &widths, colour);
        for row in &self.rows {
            out.push_str(&line(row, &widths, colour));
        }
        out
    }

    /// The width of each column, taken from the widest until all fit.
    fn widths(&self, width: usize) -> Vec<usize> {
        let length = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = self.titles.iter().map(|title| length(title)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(length(&cell.text));
            }
        }
        let gaps = GAP * widths.len().saturating_sub(1);
        if self.whole {
            return widths;
        }
        while widths.iter().sum::<usize>() + gaps > width {
            let yields = self.yields.and_then(|index| widths.get_mut(index));
            if let Some(column) = yields.filter(|column| **column > YIELDED) {
                *column -= 1;
                continue;
            }
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROW => *widest -= 1,
                // No room for so many columns; they stay readable rather than fit.
                _ => break,
            }
        }
        widths
    }
}

fn line(cells: &[Cell], widths: &[usize], colour: bool) -> String {
    let mut out = String::new();
    let mut owed = 0;
    for (cell, width) in cells.iter().zip(widths) {
        let text = middle(&cell.text, *width);
        // Paid only before a cell with something in it, so that no line ends in spaces.
        if !text.is_empty() {
            out.extend(std::iter::repeat_n(' ', owed));
            owed = 0;
            out.push_str(&if colour { cell.tone.paint(&text) } else { text.clone() });
        }
        owed += width - text.chars().count() + GAP;
    }
    out.push('\n');
    out
}

/// Names and values, one a line, aligned.
pub(crate) fn facts(ui: &Ui, facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        for (index, line) in value.lines().enumerate() {
            let name = if index == 0 { *name } else { "" };
            out.push_str(&format!("{}  {line}\n", ui.paint(Tone::Dim, &format!("{name:width$}"))));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["INSTANCE", "VERSION", "STATE", "AGE"], "nothing runs");
        let long = "very-long-domain-name.example.com:com.example.very.long.package.HelloWorld@1.0.0-rc1";
        table.row(["i-0123456789".into(), long.into(), toned("ready", Tone::Good), "5m".into()]);
        table.row(["i-9876543210".into(), "example.com:web@1.0".into(), "pending".into(), "".into()]);
        table
    }

    #[test]
    fn fits_and_keeps_the_ends_of_names() {
        let text = table().render(80, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80 && !line.ends_with(' ')), "{text}");
        assert!(text.contains("very-long-domain-name") && text.contains("HelloWorld@1.0.0-rc1"), "{text}");
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn colours_take_no_room() {
        let plain = table().render(60, false);
        let coloured = table().render(60, true);
        let mut stripped = coloured.clone();
        for tone in [Tone::Good, Tone::Busy, Tone::Bad, Tone::Dim, Tone::Title] {
            let painted = tone.paint("");
            stripped = stripped.replace(painted.trim_end_matches("\x1b[0m"), "");
        }
        assert_eq!(stripped.replace("\x1b[0m", ""), plain);
        assert!(coloured.contains("\x1b[32mready\x1b[0m"));
    }

    #[test]
    fn what_matters_less_gives_way_first_and_what_is_copied_never() {
        let text = table().yielding("VERSION").render(50, false);
        assert!(
            text.contains("i-0123456789") && text.lines().all(|line| line.chars().count() <= 50),
            "{text}"
        );
        assert!(!table().whole().render(50, false).contains('…'));
    }

    #[test]
    fn says_so_when_there_is_nothing() {
        assert_eq!(Table::new(&["A"], "no domains").render(80, false), "no domains\n");
    }
}
