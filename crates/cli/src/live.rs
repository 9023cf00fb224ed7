//! A picture that is drawn over its last self.

use crate::ui::Ui;
use std::io;

/// The last picture on a terminal.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    ui: &'a Ui,
    drawn: Option<String>,
}

impl<'a> Live<'a> {
    /// Nothing drawn yet.
    pub(crate) fn new(ui: &'a Ui) -> Self {
        Live { ui, drawn: None }
    }

    /// Draws `text` in place of what was drawn before; where nothing can be redrawn, below it, if it is another.
    pub(crate) fn draw(&mut self, text: &str) -> io::Result<()> {
        if !self.ui.terminal {
            if self.drawn.as_deref() == Some(text) {
                return Ok(());
            }
            let gap = if self.drawn.is_some() { "\n" } else { "" };
            self.drawn = Some(text.to_owned());
            return self.ui.print(&format!("{gap}{text}"));
        }
        let text = clip(text, self.ui.height);
        let up = self.drawn.as_ref().map_or(0, |drawn| drawn.lines().count());
        let back = if up > 0 { format!("\x1b[{up}A\r\x1b[J") } else { String::new() };
        self.ui.print(&format!("{back}{text}"))?;
        self.drawn = Some(text);
        Ok(())
    }
}

/// As much of `text` as a screen of `height` lines holds with the cursor below it.
fn clip(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = height.saturating_sub(1).max(2);
    if lines.len() <= room {
        return text.to_owned();
    }
    let shown: Vec<&str> = lines.iter().copied().take(room - 1).collect();
    format!("{}\n… and {} more lines\n", shown.join("\n"), lines.len() - shown.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_draws_more_than_the_screen_holds() {
        let text: String = (0..50).map(|line| format!("{line}\n")).collect();
        let clipped = clip(&text, 24);
        assert_eq!(clipped.lines().count(), 23);
        assert!(clipped.ends_with("… and 28 more lines\n"), "{clipped}");
        assert_eq!(clip("a\nb\n", 24), "a\nb\n");
    }
}
