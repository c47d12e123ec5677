//! The event log of a job.

use mooring_types::{Event, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// An entry of a job's event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "EventKeys", into = "EventKeys")]
pub struct EventView {
    /// The time of the event.
    pub time: Timestamp,
    /// The event; a kind that this version does not know is a note.
    pub event: Event,
}

/// The keys of an [`EventView`].
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = EventView, description = "An entry of a job's event log.")]
pub struct EventKeys {
    /// The time of the event.
    #[schema(value_type = String)]
    time: Timestamp,
    /// The stable name of the event, like `statusChanged`.
    kind: String,
    /// The event as a sentence.
    message: String,
    /// The data of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

impl From<EventView> for EventKeys {
    fn from(EventView { time, event }: EventView) -> Self {
        let (kind, data) = event.to_parts();
        Self { time, kind, message: event.to_string(), data }
    }
}

impl From<EventKeys> for EventView {
    fn from(EventKeys { time, kind, message, data }: EventKeys) -> Self {
        Self { time, event: Event::read(&kind, data, &message) }
    }
}

impl utoipa::PartialSchema for EventView {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        EventKeys::schema()
    }
}

impl ToSchema for EventView {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_has_name_sentence_and_data() {
        let event = Event::Resumed { to: "host-1".into() };
        let view = EventView { time: "2026-08-01T12:00:00Z".parse().unwrap(), event };
        let json = serde_json::to_value(&view).unwrap();
        let expected = serde_json::json!({
            "time": "2026-08-01T12:00:00Z", "kind": "resumed", "message": "resumed on host-1", "data": {"to": "host-1"},
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<EventView>(json).unwrap(), view);
    }
}
