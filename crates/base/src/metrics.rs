//! Figures as text, in the form that Prometheus reads (OpenMetrics): families of samples, each with a name, a kind and
//! what it means.

use std::fmt::{Display, Write as _};

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// What is so now.
    Gauge,
    /// What only grows while its process runs; its samples end in `_total`.
    Counter,
    /// A 1 whose labels say something.
    Info,
    /// Counts by upper bound.
    Histogram,
}

impl MetricKind {
    const fn as_str(self) -> &'static str {
        match self {
            MetricKind::Gauge | MetricKind::Info => "gauge",
            MetricKind::Counter => "counter",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// The closing line: nothing may follow it.
pub const END: &str = "# EOF\n";

/// The text, being written. Several of them can be put behind one another, with [`END`] behind the last.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a family. All its samples are to be put before the next one begins; without any it is told of all the same,
    /// so that it is known which there are.
    pub fn family(&mut self, name: &'static str, kind: MetricKind, help: &str) -> Family<'_> {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        Family { text: &mut self.0, name, kind }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: MetricKind, help: &str, value: impl Display) {
        self.family(name, kind, help).put(&[], value);
    }

    /// The release of the process.
    pub fn build(&mut self, release: &str) {
        let help = "The release that runs, as a label.";
        self.family("tutti_build_info", MetricKind::Info, help).put(&[("release", release)], 1);
    }

    /// The text so far.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// One family, being written.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: MetricKind,
}

impl Family<'_> {
    /// Puts a sample.
    pub fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let end = if self.kind == MetricKind::Counter { "_total" } else { "" };
        self.sample(end, labels, value);
    }

    /// Puts a histogram: how many were at most each of the bounds, in rising order, the sum of all and how many there were.
    pub fn put_histogram(&mut self, labels: &[(&str, &str)], below: &[(f64, u64)], sum: f64, count: u64) {
        for (bound, below) in below {
            let bound = bound.to_string();
            self.sample("_bucket", &[labels, &[("le", &bound)]].concat(), below);
        }
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample("_sum", labels, sum);
        self.sample("_count", labels, count);
    }

    fn sample(&mut self, end: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{end}", self.name);
        let mut between = '{';
        for (name, value) in labels {
            let _ = write!(self.text, "{between}{name}=\"{}\"", Escaped(value));
            between = ',';
        }
        if between == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A label's value as it may stand between quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_of_with_its_samples() {
        let mut text = Exposition::default();
        let mut family = text.family("tutti_things", MetricKind::Counter, "Things.");
        family.put(&[("name", "a\"b\\c\nd"), ("of", "x")], 3);
        family.put(&[], 4);
        text.single("tutti_now", MetricKind::Gauge, "Now.", 0.25);
        text.family("tutti_none", MetricKind::Gauge, "None.");
        assert_eq!(
            text.into_text(),
            "# HELP tutti_things Things.\n# TYPE tutti_things counter\n\
             tutti_things_total{name=\"a\\\"b\\\\c\\nd\",of=\"x\"} 3\ntutti_things_total 4\n\
             # HELP tutti_now Now.\n# TYPE tutti_now gauge\ntutti_now 0.25\n\
             # HELP tutti_none None.\n# TYPE tutti_none gauge\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all_there_were() {
        let mut text = Exposition::default();
        let mut family = text.family("tutti_took_seconds", MetricKind::Histogram, "Took.");
        family.put_histogram(&[("of", "a")], &[(0.001, 1), (0.5, 3)], 0.75, 4);
        let text = text.into_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "tutti_took_seconds_bucket{of=\"a\",le=\"0.001\"} 1",
                "tutti_took_seconds_bucket{of=\"a\",le=\"0.5\"} 3",
                "tutti_took_seconds_bucket{of=\"a\",le=\"+Inf\"} 4",
                "tutti_took_seconds_sum{of=\"a\"} 0.75",
                "tutti_took_seconds_count{of=\"a\"} 4",
            ]
        );
    }
}
