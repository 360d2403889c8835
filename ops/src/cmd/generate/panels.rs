//! The parts of a Grafana dashboard, as JSON.

use serde_json::{Value, json};

/// Where each panel asks: the reader of the dashboard chooses.
fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// What a panel draws.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// One big number; red from the bound on.
    Number {
        /// From here on it is red.
        red_from: f64,
    },
    /// One big number; red below the bound.
    AtLeast {
        /// Below it is red.
        red_below: f64,
    },
    /// Lines over time.
    Lines,
    /// Columns by one label, rows by another: who hears whom.
    Matrix {
        /// Label of the rows.
        row: &'static str,
        /// Label of the columns.
        column: &'static str,
    },
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: &'static str,
    /// What to make of it.
    pub help: &'static str,
    /// How.
    pub look: Look,
    /// Grafana's unit.
    pub unit: &'static str,
    /// Expressions, each with the legend of its lines.
    pub queries: &'static [(&'static str, &'static str)],
    /// Of 24 columns.
    pub width: u32,
}

/// One dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Dashboard {
    /// Its file's name, without the end.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it answers.
    pub about: &'static str,
    /// Its panels, as they are read.
    pub panels: &'static [Panel],
}

/// Rows of the grid that a panel takes.
fn height(look: Look) -> u32 {
    match look {
        Look::Number { .. } | Look::AtLeast { .. } => 4,
        Look::Lines => 8,
        Look::Matrix { .. } => 10,
    }
}

fn thresholds(look: Look) -> Value {
    let step = |color: &str, value: Option<f64>| json!({ "color": color, "value": value });
    let steps = match look {
        Look::Number { red_from } => vec![step("green", None), step("red", Some(red_from))],
        Look::AtLeast { red_below } => vec![step("red", None), step("green", Some(red_below))],
        Look::Matrix { .. } => vec![step("red", None), step("green", Some(1.0))],
        Look::Lines => vec![step("green", None)],
    };
    json!({ "mode": "absolute", "steps": steps })
}

impl Panel {
    fn json(&self, id: usize, (x, y): (u32, u32)) -> Value {
        let instant = !matches!(self.look, Look::Lines);
        let table = matches!(self.look, Look::Matrix { .. });
        let kind = match self.look {
            Look::Number { .. } | Look::AtLeast { .. } => "stat",
            Look::Lines => "timeseries",
            Look::Matrix { .. } => "table",
        };
        let target = |(at, (expr, legend)): (usize, &(&str, &str))| {
            json!({
                "refId": char::from(b'A' + u8::try_from(at).unwrap_or(25)).to_string(),
                "datasource": datasource(),
                "expr": expr,
                "legendFormat": legend,
                "instant": instant,
                "range": !instant,
                "format": if table { "table" } else { "time_series" },
            })
        };
        let targets: Vec<Value> = self.queries.iter().enumerate().map(target).collect();
        let transformations = match self.look {
            Look::Matrix { row, column } => json!([{
                "id": "groupingToMatrix",
                "options": { "rowField": row, "columnField": column, "valueField": "Value" },
            }]),
            Look::Number { .. } | Look::AtLeast { .. } | Look::Lines => json!([]),
        };
        let custom = match self.look {
            Look::Matrix { .. } => json!({ "cellOptions": { "type": "color-background" } }),
            Look::Lines => json!({ "fillOpacity": 10, "lineWidth": 1, "spanNulls": false }),
            Look::Number { .. } | Look::AtLeast { .. } => json!({}),
        };
        json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "description": self.help,
            "datasource": datasource(),
            "gridPos": { "x": x, "y": y, "w": self.width, "h": height(self.look) },
            "targets": targets,
            "transformations": transformations,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "custom": custom,
                    "thresholds": thresholds(self.look),
                    "color": { "mode": if instant { "thresholds" } else { "palette-classic" } },
                },
                "overrides": [],
            },
            "options": match self.look {
                Look::Number { .. } | Look::AtLeast { .. } => json!({
                    "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                    "colorMode": "background",
                    "graphMode": "none",
                }),
                Look::Lines => json!({
                    "legend": { "displayMode": "list", "placement": "bottom" },
                    "tooltip": { "mode": "multi", "sort": "desc" },
                }),
                Look::Matrix { .. } => json!({ "showHeader": true }),
            },
        })
    }
}

impl Dashboard {
    /// As Grafana imports it.
    pub fn json(&self) -> Value {
        let (mut x, mut y, mut row) = (0, 0, 0);
        let mut panels = Vec::new();
        for (at, panel) in self.panels.iter().enumerate() {
            if x + panel.width > 24 {
                (x, y, row) = (0, y + row, 0);
            }
            panels.push(panel.json(at + 1, (x, y)));
            x += panel.width;
            row = row.max(height(panel.look));
        }
        json!({
            "uid": self.name,
            "title": self.title,
            "description": self.about,
            "tags": ["firebreak"],
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "refresh": "5s",
            "time": { "from": "now-30m", "to": "now" },
            "timezone": "browser",
            "templating": { "list": [{
                "name": "datasource",
                "label": "Prometheus",
                "type": "datasource",
                "query": "prometheus",
                "current": {},
            }] },
            "annotations": { "list": [{
                "name": "alerts",
                "enable": true,
                "iconColor": "red",
                "datasource": datasource(),
                "expr": "ALERTS{alertname=~\"Firebreak.*\",alertstate=\"firing\"}",
                "titleFormat": "{{alertname}}",
                "step": "5s",
            }] },
            "links": [{
                "type": "dashboards",
                "title": "Firebreak",
                "tags": ["firebreak"],
                "includeVars": true,
                "keepTime": true,
            }],
            "panels": panels,
        })
    }
}
