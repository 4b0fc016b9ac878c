//! The page: one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::chart::Figure;
use super::{Results, tables};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:1600px;margin:2em auto;padding:0 1em;color:#111;background:#fff}\
h1{font-size:1.7em}h2{font-size:1.2em;margin-top:2em}svg{max-width:100%;height:auto;display:block;margin:1em 0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}\
th:first-child,td:first-child{text-align:left}th{background:#f4f4f4}.wide{overflow-x:auto}.no{font-weight:bold;color:#b00}pre{background:#f4f4f4;padding:1em;overflow-x:auto}";

const METHOD: &str = "Each point is a fresh server that was started, filled, measured and stopped, or, side by side, one of several that stay up; \
systems take turns within a repetition. A figure is the median of the repetitions; bars and brackets give the lowest and the highest. What is kept is \
the median of the ratios within each repetition. The local share is of the working set as measured on \
the system itself with everything local; 100 % has room to spare. Pages of redis-swap are the machine's swap counters, pages of Remora its own. \
The fixed-reply server does nothing but send as many bytes: no store is faster under this client on this machine. \
Far memory that is modelled (latency and bandwidth in its URI) is copied by the server's own core, where a NIC would use DMA. \
Lines marked as printed elsewhere were measured by others on other hardware; compare shapes, not heights.";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The whole page.
pub fn html(results: &Results, drawn: &[(Figure, String)]) -> String {
    let title = escape(&results.title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<ul>"
    );
    for fact in tables::facts(results) {
        let _ = write!(out, "<li>{}</li>", escape(&fact));
    }
    let _ = writeln!(out, "</ul>\n<p>{METHOD}</p>");
    for (figure, svg) in drawn {
        let _ = writeln!(out, "<figure aria-label=\"{}\">{svg}</figure>", escape(&figure.title));
    }
    for table in tables::all(results) {
        let _ = write!(out, "<h2>{}</h2><div class=\"wide\"><table><tr>", escape(&table.title));
        table.head.iter().for_each(|name| {
            let _ = write!(out, "<th>{}</th>", escape(name));
        });
        for row in &table.rows {
            out.push_str("</tr>\n<tr>");
            for cell in row {
                let class = if cell == "NO" { " class=\"no\"" } else { "" };
                let _ = write!(out, "<td{class}>{}</td>", escape(cell));
            }
        }
        out.push_str("</tr></table></div>\n");
    }
    for begin in &results.begins {
        let _ = writeln!(out, "<h2>Configuration</h2><pre>{}</pre>", escape(&begin.config));
    }
    out.push_str("</body></html>\n");
    out
}
