//! Draws a figure: panels side by side, one legend below, as SVG and as PNG from the same code.
//!
//! Colours are Okabe and Ito's, which the colour-blind can tell apart; markers and dashes tell the same
//! story without colour. Refuses axes that do not begin at zero.

use std::path::Path;
use std::sync::Once;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::register_font;
use plotters_backend::{BackendCoord, DrawingErrorKind};

use super::cells::Spread;

/// A figure of one file.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Of the file, without its ending.
    pub name: String,
    /// Above everything.
    pub title: String,
    /// Side by side.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x_label: &'static str,
    /// What the numbers on the x axis are.
    pub x_axis: Axis,
    /// Beside it.
    pub y_label: &'static str,
    /// The y axis ends here, though values may lie beyond.
    pub y_max: Option<f64>,
    /// In the order of the legend.
    pub lines: Vec<Line>,
}

/// What the numbers on an x axis are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Axis {
    /// Halvings of the local share: 0 is 100 %, 3 is 12.5 %.
    Halvings,
    /// Plain numbers from zero on.
    Numbers,
}

/// One line of a panel and of the legend.
#[derive(Clone, Debug)]
pub struct Line {
    /// In the legend; lines of one label share one entry.
    pub label: String,
    /// Index of colour and marker.
    pub style: usize,
    /// Drawn dashed, without markers if it has but two points.
    pub dashed: bool,
    /// Where it is at each x.
    pub points: Vec<(f64, Spread)>,
}

/// Okabe and Ito's colours, yellow left out (it does not show on white), and a grey.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(130, 130, 130),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];
const PANEL_WIDTH: u32 = 520;
const PANEL_HEIGHT: u32 = 430;
/// Room at the right for the half of the last label that is beyond the axis.
const LAST_LABEL_HALF: u32 = 34;
const TITLE_HEIGHT: u32 = 44;
const LEGEND_ROW_HEIGHT: u32 = 26;
const LEGEND_ENTRY_WIDTH: u32 = 260;
const FONT: &str = "sans-serif";

type Area<'a, DB> = DrawingArea<DB, Shift>;

fn size(figure: &Figure) -> (u32, u32) {
    let width = PANEL_WIDTH * figure.panels.len().max(1) as u32;
    let rows = legend(figure).len().div_ceil((width / LEGEND_ENTRY_WIDTH) as usize) as u32;
    (width, TITLE_HEIGHT + PANEL_HEIGHT + LEGEND_ROW_HEIGHT * rows + 12)
}

fn font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .ok()
            .expect("the font in the crate is a font");
    });
}

/// The figure as SVG text.
///
/// # Errors
/// If plotters cannot draw it.
pub fn svg(figure: &Figure) -> Result<String> {
    font();
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, size(figure)).into_drawing_area(), figure)?;
    Ok(text)
}

/// The figure as a PNG file.
///
/// # Errors
/// If it cannot be written.
pub fn png(figure: &Figure, path: &Path) -> Result<()> {
    font();
    draw(&BitMapBackend::new(path, size(figure)).into_drawing_area(), figure)
}

fn draw<DB: DrawingBackend>(root: &Area<'_, DB>, figure: &Figure) -> Result<()> {
    let wrong = |error: DrawingAreaErrorKind<DB::ErrorType>| anyhow!("cannot draw {}: {error}", figure.name);
    root.fill(&WHITE).map_err(wrong)?;
    let (title, rest) = root.split_vertically(TITLE_HEIGHT);
    let style = (FONT, 24).into_font().color(&BLACK);
    title.draw(&Text::new(figure.title.clone(), (16, 12), style)).map_err(wrong)?;
    let (panels, below) = rest.split_vertically(PANEL_HEIGHT);
    for (area, panel) in panels.split_evenly((1, figure.panels.len().max(1))).iter().zip(&figure.panels) {
        draw_panel(area, panel).map_err(wrong)?;
    }
    draw_legend(&below, figure).map_err(wrong)?;
    root.present().map_err(wrong)
}

/// A round number above `top`, so that the axis ends on a grid line.
pub(super) fn round_up(top: f64) -> f64 {
    let power = 10f64.powf(top.max(1e-9).log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|end| *end >= top * 1.02).unwrap_or(top * 1.1)
}

/// A number as an axis shows it.
fn axis_number(number: f64) -> String {
    if number == 0.0 || number.abs() >= 10.0 {
        crate::units::grouped(number)
    } else {
        let text = format!("{number:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn percent_of(halvings: f64) -> String {
    format!("{}%", (1000.0 / 2f64.powf(halvings)).round() / 10.0)
}

type PanelResult<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

fn draw_panel<DB: DrawingBackend>(area: &Area<'_, DB>, panel: &Panel) -> PanelResult<DB> {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let top = points().map(|(_, spread)| spread.high).fold(0.0, f64::max);
    let y_end = panel.y_max.unwrap_or_else(|| round_up(top));
    let right = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let x_range = match panel.x_axis {
        Axis::Halvings => -0.25..right.max(1.0) + 0.25,
        Axis::Numbers => 0.0..round_up(right),
    };
    let x_ticks = if panel.x_axis == Axis::Halvings { right as usize + 2 } else { 5 };
    let x_axis = panel.x_axis;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 19))
        .margin(10)
        .margin_right(LAST_LABEL_HALF)
        .x_label_area_size(48)
        .y_label_area_size(84)
        .build_cartesian_2d(x_range, 0.0..y_end)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(215, 215, 215))
        .x_labels(x_ticks)
        .y_labels(7)
        .x_desc(panel.x_label)
        .y_desc(panel.y_label)
        .label_style((FONT, 16))
        .axis_desc_style((FONT, 17))
        .x_label_formatter(&|x| if x_axis == Axis::Halvings { percent_of(*x) } else { axis_number(*x) })
        .y_label_formatter(&|y| axis_number(*y))
        .draw()?;
    for line in &panel.lines {
        let colour = COLOURS[line.style % COLOURS.len()];
        let path = line.points.iter().map(|(x, spread)| (*x, spread.median));
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(path, 7, 5, colour.stroke_width(2)))?;
        } else {
            chart.draw_series(LineSeries::new(path, colour.stroke_width(3)))?;
        }
        let shown = line.points.iter().filter(|(_, spread)| spread.median <= y_end);
        for (x, spread) in shown.clone() {
            let bar = [(*x, spread.low), (*x, spread.high.min(y_end))];
            chart.draw_series([PathElement::new(bar, colour.stroke_width(2))])?;
        }
        chart.draw_series(shown.map(|(x, spread)| Marker { at: (*x, spread.median), style: line.style }))?;
    }
    Ok(())
}

/// What a line has at its points; `C` is a place in a panel or in the legend.
struct Marker<C> {
    at: C,
    style: usize,
}

impl<'a, C: 'a> PointCollection<'a, C> for &'a Marker<C> {
    type Point = &'a C;
    type IntoIter = std::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<C, DB: DrawingBackend> Drawable<DB> for Marker<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut at: I,
        backend: &mut DB,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<DB::ErrorType>> {
        let Some((x, y)) = at.next() else { return Ok(()) };
        let fill = COLOURS[self.style % COLOURS.len()];
        // The second eight have the same colours with other markers.
        match (self.style + self.style / COLOURS.len() * 2) % 4 {
            0 => backend.draw_circle((x, y), 5, &fill, true),
            1 => backend.draw_rect((x - 5, y - 5), (x + 5, y + 5), &fill, true),
            2 => backend.fill_polygon([(x - 6, y + 5), (x, y - 6), (x + 6, y + 5)], &fill),
            _ => backend.fill_polygon([(x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7)], &fill),
        }
    }
}

/// One entry a label, in order.
fn legend(figure: &Figure) -> Vec<&Line> {
    let mut entries: Vec<&Line> = Vec::new();
    for line in figure.panels.iter().flat_map(|panel| &panel.lines) {
        if entries.iter().all(|entry| entry.label != line.label) {
            entries.push(line);
        }
    }
    entries
}

fn draw_legend<DB: DrawingBackend>(area: &Area<'_, DB>, figure: &Figure) -> PanelResult<DB> {
    let columns = (area.dim_in_pixel().0 / LEGEND_ENTRY_WIDTH).max(1) as usize;
    for (at, line) in legend(figure).into_iter().enumerate() {
        let x = (at % columns) as i32 * LEGEND_ENTRY_WIDTH as i32 + 24;
        let y = (at / columns) as i32 * LEGEND_ROW_HEIGHT as i32 + 12;
        let colour = COLOURS[line.style % COLOURS.len()];
        let dashes: &[(i32, i32)] = if line.dashed { &[(0, 8), (13, 21), (26, 34)] } else { &[(0, 34)] };
        for (from, to) in dashes {
            area.draw(&PathElement::new([(x + from, y), (x + to, y)], colour.stroke_width(3)))?;
        }
        area.draw(&Marker { at: (x + 17, y), style: line.style })?;
        let style = (FONT, 16).into_font().color(&BLACK);
        area.draw(&Text::new(line.label.clone(), (x + 42, y - 8), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_on_round_numbers_above_the_data() {
        for (top, end) in [(0.97, 1.0), (1.0, 1.2), (63_000.0, 80_000.0), (104_000.0, 120_000.0), (0.0, 1e-9)]
        {
            assert!((round_up(top) - end).abs() <= end * 1e-6 + 1e-8, "{top}: {}", round_up(top));
        }
    }

    #[test]
    fn local_shares_are_named_in_percent() {
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(percent_of), ["100%", "50%", "25%", "12.5%"]);
    }
}
