//! What is looked at: which list, in which order, from where on. Keys change it, and
//! nothing else; the servers are never changed from here.

use super::reading::{number, Reading, Row, Span};
use crate::serve::BY;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Readings that the curves go back.
const REMEMBERED: usize = 600;

/// A list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum List {
    #[default]
    Namespaces,
    HotKeys,
    Nodes,
}

/// All of them, with what they are called.
pub const LISTS: [(List, &str); 3] =
    [(List::Namespaces, "Namespaces"), (List::HotKeys, "Hot keys"), (List::Nodes, "Nodes")];

/// How a figure is written.
#[derive(Clone, Copy)]
pub enum Unit {
    /// So many, or so many a second.
    Count,
    /// A share of 1, as percent.
    Share,
    Bytes,
}

/// A column of the namespaces.
pub struct Column {
    pub title: &'static str,
    pub unit: Unit,
    pub of: fn(&Row) -> Option<f64>,
}

const fn column(title: &'static str, unit: Unit, of: fn(&Row) -> Option<f64>) -> Column {
    Column { title, unit, of }
}

/// The columns behind the name.
pub const COLUMNS: [Column; 10] = [
    column("reads/s", Unit::Count, |row| row.rates.reads),
    column("hit %", Unit::Share, |row| row.rates.hit_ratio()),
    column("stale %", Unit::Share, |row| row.rates.stale_ratio),
    column("saved s/s", Unit::Count, |row| row.rates.origin_saved_seconds),
    column("fills/s", Unit::Count, |row| row.rates.fills),
    column("failed/s", Unit::Count, |row| row.rates.failed_fills),
    column("entries", Unit::Count, |row| number(&row.now, "entries")),
    column("memory", Unit::Bytes, |row| number(&row.now, "bytes")),
    column("budget %", Unit::Share, budget),
    column("evicted/s", Unit::Count, |row| row.rates.evictions),
];

/// The share of its budget that a namespace has taken.
fn budget(row: &Row) -> Option<f64> {
    let limit = number(&row.now, "limitBytes").filter(|limit| *limit > 0.0)?;
    Some(number(&row.now, "bytes")? / limit)
}

/// See the module's text.
#[derive(Default)]
pub struct View {
    pub list: List,
    /// What namespaces are sorted by: the name, or a column behind it.
    pub sort: usize,
    pub turned: bool,
    /// What keys are hot by, of [`BY`].
    pub by: usize,
    /// Rows that are out of sight above.
    pub above: usize,
    pub paused: bool,
    pub help: bool,
    /// Without colours.
    pub plain: bool,
    pub span: Span,
    /// (hit ratio, reads a second), oldest first.
    pub past: VecDeque<(Option<f64>, Option<f64>)>,
    last: Option<Reading>,
}

impl View {
    /// Sorted by reads, as one wants to see it first.
    pub fn new(plain: bool) -> Self {
        Self { sort: 1, plain, ..Self::default() }
    }

    /// Takes a reading. One that comes while it is paused is the first of the next span.
    pub fn take(&mut self, reading: Reading) {
        let span = Span::new(self.last.as_ref(), reading.clone());
        self.last = Some(reading);
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back((span.rates.hit_ratio(), span.rates.reads));
        if !self.paused {
            self.span = span;
        }
    }

    /// What keys are to be hot by.
    pub fn by(&self) -> &'static str {
        BY[self.by % BY.len()]
    }

    /// The namespaces in order. What there is no figure of comes last, whichever way.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.span.rows.iter().collect();
        let by_name = |one: &&Row, other: &&Row| one.name.cmp(&other.name);
        rows.sort_by(by_name);
        match self.sort.checked_sub(1).and_then(|n| COLUMNS.get(n)) {
            None if self.turned => rows.reverse(),
            None => {}
            Some(column) => rows.sort_by(|one, other| match ((column.of)(one), (column.of)(other)) {
                (Some(one), Some(other)) if self.turned => one.total_cmp(&other),
                (Some(one), Some(other)) => other.total_cmp(&one),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            }),
        }
        rows
    }

    /// How many rows the list has.
    fn len(&self) -> usize {
        match self.list {
            List::Namespaces => self.span.rows.len(),
            List::HotKeys => self.span.now.hot_keys.len(),
            List::Nodes => self.span.now.nodes.len(),
        }
    }

    /// Does what a key is for; whether to go on.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let place = LISTS.iter().position(|(list, _)| *list == self.list).unwrap_or(0);
        match key.code {
            KeyCode::Char('c') if control => return false,
            KeyCode::Char('q') => return false,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => return false,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Tab | KeyCode::Right => self.show(place + 1),
            KeyCode::BackTab | KeyCode::Left => self.show(place + LISTS.len() - 1),
            KeyCode::Char(digit @ '1'..='3') => self.show(digit as usize - '1' as usize),
            KeyCode::Char('s') if self.list == List::Namespaces => self.sort_by(self.sort + 1),
            KeyCode::Char('S') if self.list == List::Namespaces => self.sort_by(self.sort + COLUMNS.len()),
            KeyCode::Char('s') if self.list == List::HotKeys => self.by = (self.by + 1) % BY.len(),
            KeyCode::Char('r') => self.turned = !self.turned,
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.above = self.above.saturating_sub(1),
            KeyCode::PageDown => self.scroll(10),
            KeyCode::PageUp => self.above = self.above.saturating_sub(10),
            KeyCode::Home => self.above = 0,
            KeyCode::End => self.scroll(usize::MAX),
            _ => {}
        }
        true
    }

    fn show(&mut self, place: usize) {
        self.list = LISTS[place % LISTS.len()].0;
        self.above = 0;
    }

    fn sort_by(&mut self, sort: usize) {
        self.sort = sort % (COLUMNS.len() + 1);
        self.above = 0;
    }

    fn scroll(&mut self, rows: usize) {
        self.above = self.above.saturating_add(rows).min(self.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(name: &str, bytes: Option<u64>) -> Row {
        let now = json!({ "bytes": bytes, "limitBytes": 100 }).as_object().cloned().expect("an object");
        Row { name: name.into(), now, ..Row::default() }
    }

    fn names(view: &View) -> String {
        view.rows().iter().map(|row| row.name.as_str()).collect()
    }

    fn press(view: &mut View, code: KeyCode) -> bool {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn sorted_by_each_column_both_ways() {
        let mut view = View::new(true);
        view.span.rows = vec![row("b", Some(5)), row("d", None), row("a", Some(70)), row("c", Some(5))];
        assert_eq!(names(&view), "abcd", "of no reads: by name");
        view.sort = 1 + COLUMNS.iter().position(|column| column.title == "memory").expect("a column");
        assert_eq!(names(&view), "abcd");
        press(&mut view, KeyCode::Char('r'));
        assert_eq!(names(&view), "bcad", "what has no figure is last");
        press(&mut view, KeyCode::Char('s'));
        assert_eq!(COLUMNS[view.sort - 1].title, "budget %");
        press(&mut view, KeyCode::Char('S'));
        assert_eq!(COLUMNS[view.sort - 1].title, "memory");
        view.sort = 0;
        assert_eq!(names(&view), "dcba");
        for _ in 0..=COLUMNS.len() {
            press(&mut view, KeyCode::Char('s'));
        }
        assert_eq!(view.sort, 0, "round and round");
    }

    #[test]
    fn keys() {
        let mut view = View::new(true);
        view.span.rows = (0..5).map(|n| row(&n.to_string(), None)).collect();
        for (code, list) in [
            (KeyCode::Tab, List::HotKeys),
            (KeyCode::Tab, List::Nodes),
            (KeyCode::Tab, List::Namespaces),
            (KeyCode::BackTab, List::Nodes),
            (KeyCode::Char('2'), List::HotKeys),
            (KeyCode::Char('1'), List::Namespaces),
        ] {
            assert!(press(&mut view, code));
            assert_eq!(view.list, list);
        }
        for (code, above) in [
            (KeyCode::Down, 1),
            (KeyCode::End, 4),
            (KeyCode::Down, 4),
            (KeyCode::Up, 3),
            (KeyCode::PageUp, 0),
            (KeyCode::PageDown, 4),
            (KeyCode::Home, 0),
        ] {
            press(&mut view, code);
            assert_eq!(view.above, above, "{code:?}");
        }
        press(&mut view, KeyCode::Char('2'));
        press(&mut view, KeyCode::Char('s'));
        assert_eq!(view.by(), "cost");
        press(&mut view, KeyCode::Char('?'));
        assert!(view.help);
        assert!(press(&mut view, KeyCode::Esc), "it closes the help first");
        assert!(!view.help);
        assert!(!press(&mut view, KeyCode::Esc) && !press(&mut view, KeyCode::Char('q')));
        assert!(!view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(press(&mut view, KeyCode::Char('c')), "by itself it is no key");
    }

    #[test]
    fn paused_it_stands_still_and_goes_on_with_what_was() {
        let at = |ms: u64| Reading {
            overview: json!({ "atMs": ms, "hits": ms, "staleHits": 0, "misses": 0 })
                .as_object()
                .cloned()
                .expect("an object"),
            ..Reading::default()
        };
        let mut view = View::new(true);
        view.take(at(1000));
        view.take(at(2000));
        press(&mut view, KeyCode::Char('p'));
        view.take(at(9000));
        assert_eq!(number(&view.span.now.overview, "atMs"), Some(2000.0));
        press(&mut view, KeyCode::Char('p'));
        view.take(at(10_000));
        assert_eq!(view.span.rates.reads, Some(1000.0));
        assert_eq!(view.past.len(), 4);
        (0..2 * REMEMBERED as u64).for_each(|n| view.take(at(n)));
        assert_eq!(view.past.len(), REMEMBERED);
    }
}
