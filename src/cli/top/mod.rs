//! `cacheflow top`: what goes on in servers, in a terminal.
//!
//! ```text
//! a task:  fleet ─ look, hot keys ─▶ Reading ─▶ channel ┐      every --interval
//! main:    keys ─▶ View ◀────────────────────────────────┘─▶ draw
//! ```
//! Guarantees:
//! - It only reads. What it costs the servers is one INFO, CACHE.METRICS and
//!   CACHE.HOTKEYS of each in an interval.
//! - A server that hangs keeps neither keys nor screen waiting: it is shown as down.
//! - The terminal is as it was when it ends, by a panic or by TERM too.

mod draw;
#[cfg(test)]
mod draw_tests;
mod reading;
mod view;

use crate::connect::Place;
use crate::interrupt;
use crate::serve::{Fleet, BY};
use crate::times::length;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal;
use reading::{is_up, text, Reading};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::Arc;
use std::time::Duration;
use view::View;

/// Hot keys that are asked for.
const KEYS: usize = 50;
/// How soon a key that was pressed, or a signal, is noticed.
const ATTENTION: Duration = Duration::from_millis(100);
/// The shortest time between two readings: the fleet shares a look for nearly as long.
const SHORTEST: Duration = Duration::from_secs(1);
/// The width of a page that goes to no terminal.
const WIDTH: u16 = 130;

/// Shows what goes on, in the terminal: hit ratios, namespaces, hot keys, nodes.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// How often it looks: 1s or more.
    #[arg(long, default_value = "2s", value_parser = length)]
    interval: Duration,
    /// How long a node may take to answer.
    #[arg(long, default_value = "2s", value_parser = length)]
    timeout: Duration,
    /// Print what it is now as text, and end. Rates are of one interval.
    #[arg(long)]
    once: bool,
    /// The same as JSON.
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.interval >= SHORTEST, "--interval is at least {} s", SHORTEST.as_secs());
    let is_once = options.once || options.json;
    if !is_once && !std::io::stdout().is_terminal() {
        bail!("it is shown in a terminal, and this is none: --once prints it, and --json");
    }
    let fleet = Fleet::new(options.place.reach()?, options.timeout);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("no threads can be started")?;
    let outcome = if is_once {
        runtime.block_on(print(&fleet, options))
    } else {
        let by = Arc::new(AtomicUsize::new(0));
        let (sender, readings) = mpsc::channel();
        runtime.spawn(fleet.clone().follow(options.interval));
        let (asked, interval) = (by.clone(), options.interval);
        runtime.spawn(async move {
            loop {
                let by = BY[asked.load(Ordering::Relaxed) % BY.len()];
                if sender.send(reading::read(&fleet, by, KEYS).await).is_err() {
                    return;
                }
                tokio::time::sleep(interval).await;
            }
        });
        show(&readings, &by)
    };
    // Who still waits for a node that hangs is not waited for.
    runtime.shutdown_background();
    outcome
}

/// One reading, with what happened in the interval before it.
async fn print(fleet: &Arc<Fleet>, options: &Options) -> Result<()> {
    let finder = fleet.clone();
    tokio::task::spawn_blocking(move || finder.discover())
        .await
        .context("looking for nodes was broken off")?;
    if let Some(failure) = fleet.members().failure {
        bail!("{failure}");
    }
    let mut view = View::new(true);
    view.take(answered(reading::read(fleet, view.by(), KEYS).await)?);
    tokio::time::sleep(options.interval).await;
    view.take(answered(reading::read(fleet, view.by(), KEYS).await)?);
    if options.json {
        println!("{}", view.span.json());
    } else {
        let width = std::io::stdout().is_terminal().then(terminal::size).and_then(Result::ok);
        print!("{}", draw::page(view, width.map_or(WIDTH, |(width, _)| width)));
    }
    Ok(())
}

/// A reading to which anybody has answered.
fn answered(reading: Reading) -> Result<Reading> {
    match reading.nodes.first() {
        Some(node) if !reading.nodes.iter().any(is_up) => {
            bail!("no node answers: {}: {}", text(node, "node"), text(node, "error"))
        }
        _ => Ok(reading),
    }
}

/// The terminal as it is while we draw, and as it was afterwards.
struct Screen;

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn show(readings: &Receiver<Reading>, by: &AtomicUsize) -> Result<()> {
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let _screen = Screen;
    // https://no-color.org
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut view = View::new(plain);
    let mut is_new = true;
    while !interrupt::asked() {
        if is_new {
            let drawn = terminal.draw(|frame| draw::draw(&view, frame.area(), frame.buffer_mut()));
            drawn.context("the terminal cannot be drawn on")?;
        }
        is_new = event::poll(ATTENTION).context("no keys can be read")?;
        if is_new {
            match event::read().context("no keys can be read")? {
                Event::Key(key) if !view.press(key) => break,
                _ => {}
            }
            by.store(view.by, Ordering::Relaxed);
        }
        match readings.try_recv() {
            Ok(reading) => {
                view.take(reading);
                is_new = true;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => bail!("nothing is read any more"),
        }
    }
    Ok(())
}
