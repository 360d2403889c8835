//! The part of PromQL that the shipped rules are written in.
//!
//! Numbers, series with matchers and ranges, the functions [`Function`], the aggregations
//! [`Aggregate`] with `by`, arithmetic, comparisons, and `and`, `unless`, `or`. Vectors are matched by all
//! their labels. `on`, `bool`, `offset` and subqueries are not of it.

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number.
    Number(f64),
    /// The series of a name.
    Series {
        /// The name.
        name: String,
        /// Labels that they must have.
        matchers: Vec<Matcher>,
        /// How far back, seconds; 0 is only now.
        range_s: usize,
    },
    /// A function of one value.
    Call(Function, Box<Expr>),
    /// Series brought together by labels.
    Gather(Aggregate, Vec<String>, Box<Expr>),
    /// Two values.
    Both(Operator, Box<Expr>, Box<Expr>),
}

/// A label that a series must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// One of these is its value.
    pub any: Vec<String>,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Growth a second of a counter, extrapolated to the range's ends.
    Rate,
    /// The same over the range.
    Increase,
    /// The largest in the range.
    MaxOverTime,
    /// How often a counter began again.
    Resets,
    /// Without the sign.
    Abs,
    /// 1 when there is nothing.
    Absent,
}

/// An aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The sum.
    Sum,
    /// The least.
    Min,
    /// The largest.
    Max,
    /// How many.
    Count,
}

/// What stands between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Times,
    /// `/`
    Divide,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `>`
    Above,
    /// `<`
    Below,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `and`
    And,
    /// `unless`
    Unless,
    /// `or`
    Or,
}

/// How tightly operators bind, the loosest first.
const LEVELS: [&[(&str, Operator)]; 5] = [
    &[("or", Operator::Or)],
    &[("and", Operator::And), ("unless", Operator::Unless)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        (">=", Operator::AtLeast),
        ("<=", Operator::AtMost),
        (">", Operator::Above),
        ("<", Operator::Below),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Times), ("/", Operator::Divide)],
];

/// Reads an expression.
///
/// # Errors
/// What is not of this language, and where.
pub fn parse(text: &str) -> Result<Expr, String> {
    let mut reader = Reader { text, at: 0 };
    let expr = reader.level(0)?;
    reader.blanks();
    match reader.rest().is_empty() {
        true => Ok(expr),
        false => Err(reader.wrong("an operator")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn wrong(&self, wanted: &str) -> String {
        let found: String = self.rest().chars().take(20).collect();
        format!("at {}: {wanted} is expected, not {found:?}", self.at)
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `token`, a word as a whole, if it stands here.
    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let Some(behind) = self.rest().strip_prefix(token) else {
            return false;
        };
        let is_word = token.starts_with(char::is_alphabetic);
        if is_word && behind.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return false;
        }
        self.at += token.len();
        true
    }

    fn need(&mut self, token: &str) -> Result<(), String> {
        match self.take(token) {
            true => Ok(()),
            false => Err(self.wrong(token)),
        }
    }

    fn word(&mut self) -> &'t str {
        self.blanks();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn level(&mut self, level: usize) -> Result<Expr, String> {
        let Some(operators) = LEVELS.get(level) else {
            return self.single();
        };
        let mut left = self.level(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(token, _)| self.take(token)) {
            let right = self.level(level + 1)?;
            left = Expr::Both(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn single(&mut self) -> Result<Expr, String> {
        if self.take("(") {
            let inner = self.level(0)?;
            self.need(")")?;
            return Ok(inner);
        }
        self.blanks();
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            let rest = self.rest();
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
            let number = &rest[..end.unwrap_or(rest.len())];
            let wrong = self.wrong("a number");
            self.at += number.len();
            return number.parse().map(Expr::Number).map_err(|_| wrong);
        }
        let name = self.word();
        let aggregate = match name {
            "sum" => Some(Aggregate::Sum),
            "min" => Some(Aggregate::Min),
            "max" => Some(Aggregate::Max),
            "count" => Some(Aggregate::Count),
            _ => None,
        };
        if let Some(aggregate) = aggregate {
            return self.gathered(aggregate);
        }
        let function = match name {
            "rate" => Some(Function::Rate),
            "increase" => Some(Function::Increase),
            "max_over_time" => Some(Function::MaxOverTime),
            "resets" => Some(Function::Resets),
            "abs" => Some(Function::Abs),
            "absent" => Some(Function::Absent),
            _ => None,
        };
        if let Some(function) = function {
            return self.called(function);
        }
        let is_name = name.starts_with("firebreak_") || name == "up";
        match is_name {
            true => self.series(name),
            false => Err(format!("{name:?} is neither a series nor a function here")),
        }
    }

    fn gathered(&mut self, aggregate: Aggregate) -> Result<Expr, String> {
        let mut by = Vec::new();
        if self.take("by") {
            self.need("(")?;
            while !self.take(")") {
                match self.word() {
                    "" => return Err(self.wrong("a label")),
                    label => by.push(label.to_owned()),
                }
                self.take(",");
            }
        }
        self.need("(")?;
        let inner = self.level(0)?;
        self.need(")")?;
        Ok(Expr::Gather(aggregate, by, Box::new(inner)))
    }

    fn called(&mut self, function: Function) -> Result<Expr, String> {
        self.need("(")?;
        let inner = self.level(0)?;
        self.need(")")?;
        let over_time = !matches!(function, Function::Abs | Function::Absent);
        let has_range = matches!(&inner, Expr::Series { range_s, .. } if *range_s > 0);
        match over_time == has_range {
            true => Ok(Expr::Call(function, Box::new(inner))),
            false => Err(format!(
                "{function:?} takes {}",
                match over_time {
                    true => "a range",
                    false => "no range",
                }
            )),
        }
    }

    fn series(&mut self, name: &str) -> Result<Expr, String> {
        let mut matchers = Vec::new();
        if self.take("{") {
            while !self.take("}") {
                let label = self.word().to_owned();
                let several = self.take("=~");
                if !several {
                    self.need("=")?;
                }
                self.need("\"")?;
                let rest = self.rest();
                let end = rest
                    .find('"')
                    .ok_or_else(|| self.wrong("a closing quote"))?;
                let value = &rest[..end];
                self.at += end + 1;
                let special = |c: char| ".*+?()[]{}^$\\".contains(c);
                if several && value.contains(special) {
                    return Err(format!("{value:?}: only words between | are known here"));
                }
                let any = match several {
                    true => value.split('|').map(str::to_owned).collect(),
                    false => vec![value.to_owned()],
                };
                matchers.push(Matcher { label, any });
                self.take(",");
            }
        }
        let mut range_s = 0;
        if self.take("[") {
            let text = self.word();
            let unit = text.chars().last();
            let unit = match unit {
                Some('s') => 1,
                Some('m') => 60,
                Some('h') => 3_600,
                _ => return Err(self.wrong("a time as 5m")),
            };
            let number = text[..text.len() - 1].parse::<usize>();
            range_s = number.map_err(|_| self.wrong("a time as 5m"))? * unit;
            self.need("]")?;
        }
        Ok(Expr::Series {
            name: name.to_owned(),
            matchers,
            range_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_expression_is_of_this_language() {
        for alert in server::sight::alerts::ALERTS {
            let parsed = parse(alert.expr);
            assert!(parsed.is_ok(), "{}: {parsed:?}", alert.name);
        }
    }

    #[test]
    fn operators_bind_as_in_prometheus() {
        let series = "firebreak_a";
        let check = |plain: &str, bracketed: &str| {
            let [plain, bracketed] = [plain, bracketed].map(|text| text.replace('x', series));
            assert_eq!(parse(&plain), parse(&bracketed));
            assert!(parse(&plain).is_ok(), "{plain}");
        };
        check("x < 2 * x unless x == 1", "(x < (2 * x)) unless (x == 1)");
        check(
            "x / x - x > 0 or x and x",
            "(((x / x) - x) > 0) or (x and x)",
        );
        check("x > 0 and x < 30", "(x > 0) and (x < 30)");
    }

    #[test]
    fn what_is_not_known_is_told() {
        for (text, why) in [
            ("rate(firebreak_a)", "takes a range"),
            ("firebreak_a[5q] > 1", "a time as 5m"),
            ("firebreak_a{x=~\"a.*\"}", "only words between |"),
            (
                "histogram_quantile(1, firebreak_a)",
                "neither a series nor a function",
            ),
            ("firebreak_a firebreak_b", "an operator is expected"),
            ("sum(firebreak_a", ") is expected"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
