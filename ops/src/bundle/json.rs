//! What nodes answer, as JSON: by the descriptors that they answer reflection with, so that every field
//! is there under its name in the .proto files.

use anyhow::Context as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Serialize;
use server::sight::verdict::Judged;
use server::sight::view::View;

/// Turns messages of one type into JSON.
pub struct Shape(MessageDescriptor);

impl Shape {
    /// Of `firebreak.v1.NAME`.
    ///
    /// # Errors
    /// When there is no such type in this program.
    pub fn of(name: &str) -> anyhow::Result<Shape> {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).context("the descriptors")?;
        let name = format!("firebreak.v1.{name}");
        let found = pool.get_message_by_name(&name);
        Ok(Shape(found.with_context(|| format!("{name} is unknown"))?))
    }

    /// Writes one; `whole` with the fields that say nothing too.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn write(
        &self,
        message: &impl prost::Message,
        whole: bool,
        to: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let bytes = message.encode_to_vec();
        let message = DynamicMessage::decode(self.0.clone(), &bytes[..])?;
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(false)
            .skip_default_fields(!whole);
        match whole {
            true => {
                let mut json = serde_json::Serializer::pretty(to);
                message.serialize_with_options(&mut json, &options)?;
            }
            false => {
                let mut json = serde_json::Serializer::new(to);
                message.serialize_with_options(&mut json, &options)?;
            }
        }
        Ok(())
    }
}

/// How the cluster stands, as `firebreak status --json` tells it.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn cluster(judged: &Judged, view: &View) -> anyhow::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Cluster<'a> {
        #[serde(flatten)]
        judged: &'a Judged,
        #[serde(flatten)]
        view: &'a View,
    }
    Ok(serde_json::to_vec_pretty(&Cluster { judged, view })?)
}

#[cfg(test)]
mod tests {
    use client::v1;

    use super::*;

    #[test]
    fn a_message_is_told_by_the_names_of_its_fields_and_with_plain_numbers() {
        let page = v1::GetEventsResponse {
            node_id: 1 << 40,
            node_name: "seoul-1".to_owned(),
            ..v1::GetEventsResponse::default()
        };
        let shape = Shape::of("GetEventsResponse").unwrap();
        let mut json = Vec::new();
        shape.write(&page, false, &mut json).unwrap();
        let expect = r#"{"node_id":1099511627776,"node_name":"seoul-1"}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expect);
        let mut json = Vec::new();
        shape.write(&page, true, &mut json).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["records"], serde_json::json!([]));
        assert_eq!(value["off"], false);
        assert!(Shape::of("Nothing").is_err());
    }
}
