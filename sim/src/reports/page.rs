//! What all pages share: one file that asks for nothing from anywhere, light or dark as the reader's
//! system is, and fit for paper. It is well-formed XML too, which tests hold it to.

use super::words::escape;

/// A page of the reports around `body`.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\"/>\
         <link rel=\"icon\" href=\"data:,\"/>\
         <title>{}</title><style>{}</style></head><body>\n{HATCHES}<main>\n{body}</main>\
         <script>{}</script></body></html>\n",
        escape(title),
        include_str!("page.css"),
        include_str!("page.js"),
    )
}

/// Patterns that shapes are filled with, so that not colour alone tells them apart.
const HATCHES: &str = "<svg class=\"defs\" aria-hidden=\"true\"><defs>\
    <pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" class=\"h0\"/>\
    <rect width=\"2.5\" height=\"6\" class=\"h1\"/></pattern>\
    <pattern id=\"fine\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(-45)\"><rect width=\"1.5\" height=\"5\" class=\"h2\"/></pattern>\
    </defs></svg>\n";

/// A titled part of a page; `content` is HTML.
pub(crate) fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{}</h2>{content}</section>\n", escape(title))
}

/// Sections side by side where there is room.
pub(crate) fn columns(parts: &[(&str, String)]) -> String {
    let parts = parts.iter().map(|(title, content)| section(title, content));
    format!(
        "<div class=\"columns\">{}</div>\n",
        parts.collect::<String>()
    )
}

/// The command that repeats something, with a button that copies it.
pub(crate) fn again(command: &str) -> String {
    let command = escape(command);
    format!(
        "<p class=\"again\"><span>again</span><code>{command}</code>\
         <button type=\"button\" data-copy=\"{command}\">copy</button></p>\n"
    )
}
