//! A line as it stands in the file: the fields that are imported, and the names of all others.
//!
//! What `firebreak read --json` prints is a line as well: its time is `original_time` or, without one,
//! `create_time`, and what is no text is `body_base64`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The fields of a line.
#[derive(Debug, Default)]
pub(super) struct Raw<'a> {
    pub conversation: Cow<'a, str>,
    pub sender: Cow<'a, str>,
    pub timestamp: Cow<'a, str>,
    pub text: Option<Cow<'a, str>>,
    pub body_base64: Option<Cow<'a, str>>,
    pub kind: Option<Cow<'a, str>>,
    pub attributes: BTreeMap<String, String>,
    pub silent: bool,
    /// Names of fields that are not imported.
    pub dropped: Vec<String>,
}

/// The fields that give the time of a message, the one that counts first.
pub(super) const TIMES: [&str; 3] = ["timestamp", "original_time", "create_time"];

/// A text that is borrowed from the line where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut raw = Raw::default();
                let (mut conversation, mut sender) = (None, None);
                let mut times: [Option<Cow<'de, str>>; 3] = [None, None, None];
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "conversation" => conversation = Some(map.next_value::<Text<'de>>()?.0),
                        "sender" => sender = Some(map.next_value::<Text<'de>>()?.0),
                        "text" => raw.text = some(map.next_value()?),
                        "body_base64" => raw.body_base64 = some(map.next_value()?),
                        "type" => raw.kind = some(map.next_value()?),
                        "attributes" => {
                            let given: Option<BTreeMap<String, String>> = map.next_value()?;
                            raw.attributes = given.unwrap_or_default();
                        }
                        "silent" => {
                            raw.silent = map.next_value::<Option<bool>>()?.unwrap_or_default();
                        }
                        other => match TIMES.iter().position(|name| *name == other) {
                            Some(at) => times[at] = some(map.next_value()?),
                            None => {
                                map.next_value::<IgnoredAny>()?;
                                raw.dropped.push(key.into_owned());
                            }
                        },
                    }
                }
                let missing = |name| A::Error::missing_field(name);
                raw.conversation = conversation.ok_or_else(|| missing("conversation"))?;
                raw.sender = sender.ok_or_else(|| missing("sender"))?;
                let mut given = TIMES.into_iter().zip(times);
                let time = given.find_map(|(_, time)| time);
                raw.timestamp = time.ok_or_else(|| missing("timestamp"))?;
                let unused = given.filter(|(_, time)| time.is_some());
                raw.dropped.extend(unused.map(|(name, _)| name.to_owned()));
                if raw.text.is_none() && raw.body_base64.is_none() {
                    return Err(missing("text"));
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn some(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|text| text.0)
}
