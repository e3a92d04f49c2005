//! Schema → the options of HTTP/2.

use std::collections::BTreeMap;

use corvoy_config::{self as config, Path, Problems};

use super::frame::setting;
use super::{Keepalive, Options, StreamErrors};

/// Compiles `http2_protocol_options` at `at`. `stream_error` is what the connection manager says about
/// invalid messages of any version; a cluster says nothing.
pub(crate) fn http2(
    schema: &config::Http2ProtocolOptions,
    stream_error: Option<bool>,
    at: &Path,
    problems: &mut Problems,
) -> Options {
    let config::Http2ProtocolOptions {
        hpack_table_size,
        max_concurrent_streams,
        initial_stream_window_size,
        initial_connection_window_size,
        allow_connect,
        allow_metadata,
        max_outbound_frames,
        max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message,
        custom_settings_parameters,
        connection_keepalive,
        enable_huffman_encoding,
        max_header_field_size_kb,
        disallow_obs_text,
        stream_reset_burst,
        stream_reset_rate,
    } = schema;
    if *allow_metadata {
        problems.not_implemented(&at.field("allow_metadata"), "allow_metadata");
    }
    let stream_error = override_stream_error_on_invalid_http_message
        .or(stream_error)
        .unwrap_or(*stream_error_on_invalid_http_messaging);
    let default = Options::default();
    let mut options = Options {
        hpack_table_size: hpack_table_size.unwrap_or(default.hpack_table_size),
        max_concurrent_streams: max_concurrent_streams.unwrap_or(default.max_concurrent_streams),
        initial_stream_window_size: initial_stream_window_size
            .unwrap_or(default.initial_stream_window_size),
        initial_connection_window_size: initial_connection_window_size
            .unwrap_or(default.initial_connection_window_size),
        allow_connect: *allow_connect,
        enable_huffman_encoding: enable_huffman_encoding.unwrap_or(default.enable_huffman_encoding),
        disallow_obs_text: disallow_obs_text.unwrap_or(default.disallow_obs_text),
        max_frame_size: default.max_frame_size,
        custom_settings: Box::default(),
        max_outbound_frames: max_outbound_frames.unwrap_or(default.max_outbound_frames),
        max_outbound_control_frames: max_outbound_control_frames
            .unwrap_or(default.max_outbound_control_frames),
        max_consecutive_inbound_frames_with_empty_payload:
            max_consecutive_inbound_frames_with_empty_payload
                .unwrap_or(default.max_consecutive_inbound_frames_with_empty_payload),
        max_inbound_priority_frames_per_stream: max_inbound_priority_frames_per_stream
            .unwrap_or(default.max_inbound_priority_frames_per_stream),
        max_inbound_window_update_frames_per_data_frame_sent:
            max_inbound_window_update_frames_per_data_frame_sent
                .unwrap_or(default.max_inbound_window_update_frames_per_data_frame_sent),
        stream_reset_burst: stream_reset_burst.map_or(default.stream_reset_burst, saturated),
        stream_reset_rate: stream_reset_rate.map_or(default.stream_reset_rate, saturated),
        max_header_field_size: max_header_field_size_kb
            .map_or(default.max_header_field_size, |kilobytes| kilobytes * 1024),
        stream_errors: if stream_error {
            StreamErrors::EndTheStream
        } else {
            StreamErrors::EndTheConnection
        },
        keepalive: connection_keepalive.as_ref().map(keepalive),
    };
    let at = at.field("custom_settings_parameters");
    let custom = Custom { schema, at: &at };
    custom.apply(custom_settings_parameters, &mut options, problems);
    options
}

/// More than this makes no difference.
fn saturated(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn keepalive(schema: &config::KeepaliveSettings) -> Keepalive {
    let config::KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } =
        schema;
    //= envoy: config.core.v3.KeepaliveSettings.interval_jitter is rounded to whole percents.
    let percent = interval_jitter.as_ref().map_or(15.0, |config::Percent { value }| value.round());
    Keepalive {
        interval: *interval,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the schema allows 0 to 100"
        )]
        interval_jitter_percent: percent as u32,
        timeout: timeout.unwrap_or_default(),
        connection_idle_interval: *connection_idle_interval,
    }
}

/// `custom_settings_parameters`, and the fields that they may collide with.
struct Custom<'a> {
    schema: &'a config::Http2ProtocolOptions,
    at: &'a Path,
}

impl Custom<'_> {
    /// A parameter that has a field of its own sets its value, the others are sent as they are.
    fn apply(
        &self,
        parameters: &[config::SettingsParameter],
        options: &mut Options,
        problems: &mut Problems,
    ) {
        let mut values = BTreeMap::new();
        let mut sent = Vec::with_capacity(parameters.len());
        for (i, schema) in parameters.iter().enumerate() {
            let config::SettingsParameter { identifier, value } = schema;
            let (identifier, value) = (identifier.unwrap_or(0), value.unwrap_or(0));
            let at = self.at.index(i);
            if let Some(previous) = values.insert(identifier, value) {
                if previous != value {
                    let why = format!("SETTINGS parameter {identifier} has two values");
                    problems.error(&at, why);
                }
                continue;
            }
            // Larger ones do not exist on the wire.
            let Ok(identifier) = u16::try_from(identifier) else { continue };
            if let Some(why) = self.collision(identifier, value) {
                problems.error(&at, why);
                continue;
            }
            match identifier {
                setting::HEADER_TABLE_SIZE => options.hpack_table_size = value,
                setting::MAX_CONCURRENT_STREAMS => options.max_concurrent_streams = value,
                setting::INITIAL_WINDOW_SIZE => options.initial_stream_window_size = value,
                _ => {
                    if identifier == setting::MAX_FRAME_SIZE {
                        options.max_frame_size = value;
                    }
                    sent.push((identifier, value));
                }
            }
        }
        options.custom_settings = sent.into();
    }

    /// Why a parameter must not be set in this way.
    fn collision(&self, identifier: u16, value: u32) -> Option<String> {
        let named = |name: &str| format!("the parameter is set by its field, `{name}`");
        match identifier {
            setting::ENABLE_PUSH if value != 0 => Some("Corvoy does not push".to_owned()),
            setting::ENABLE_CONNECT_PROTOCOL => Some(named("allow_connect")),
            setting::HEADER_TABLE_SIZE if self.schema.hpack_table_size.is_some() => {
                Some(named("hpack_table_size"))
            }
            setting::MAX_CONCURRENT_STREAMS if self.schema.max_concurrent_streams.is_some() => {
                Some(named("max_concurrent_streams"))
            }
            setting::INITIAL_WINDOW_SIZE if self.schema.initial_stream_window_size.is_some() => {
                Some(named("initial_stream_window_size"))
            }
            setting::INITIAL_WINDOW_SIZE if value > i32::MAX as u32 => {
                Some("a window has at most 2147483647 bytes".to_owned())
            }
            //= rfc9113#section-6.5.2: no peer takes another value.
            setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                Some("the largest frame has 16384 to 16777215 bytes".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn empty_options_are_envoys_defaults() {
        assert_eq!(good(json!({})), Options::default());
    }

    #[test]
    fn options_that_are_set_are_compiled() {
        let options = good(json!({
            "hpack_table_size": 0,
            "max_concurrent_streams": 7,
            "initial_stream_window_size": 65_535,
            "initial_connection_window_size": 65_536,
            "allow_connect": true,
            "enable_huffman_encoding": false,
            "disallow_obs_text": true,
            "max_header_field_size_kb": 100,
            "stream_reset_burst": 0,
            "override_stream_error_on_invalid_http_message": true,
        }));
        assert_eq!((options.hpack_table_size, options.max_concurrent_streams), (0, 7));
        assert_eq!(options.initial_stream_window_size, 65_535);
        assert_eq!(options.initial_connection_window_size, 65_536);
        assert!(options.allow_connect && options.disallow_obs_text);
        assert!(!options.enable_huffman_encoding);
        assert_eq!(options.max_header_field_size, 100 * 1024);
        assert_eq!(options.stream_reset_burst, 0);
        assert_eq!(options.stream_errors, StreamErrors::EndTheStream);
    }

    #[test]
    fn the_most_specific_option_says_what_an_invalid_message_ends() {
        let ends = |schema: Value, manager| {
            let schema = serde_json::from_value(schema).unwrap();
            let mut problems = Problems::default();
            http2(&schema, manager, &Path::root(), &mut problems).stream_errors
        };
        let own = |value: bool| json!({ "override_stream_error_on_invalid_http_message": value });
        let old = json!({ "stream_error_on_invalid_http_messaging": true });
        assert_eq!(ends(own(false), Some(true)), StreamErrors::EndTheConnection);
        assert_eq!(ends(json!({}), Some(true)), StreamErrors::EndTheStream);
        assert_eq!(ends(old.clone(), Some(false)), StreamErrors::EndTheConnection);
        assert_eq!(ends(old, None), StreamErrors::EndTheStream);
    }

    #[test]
    fn keepalive_has_a_jitter_of_15_percent() {
        let keepalive = |schema: Value| good(json!({ "connection_keepalive": schema })).keepalive;
        let second = json!({ "secs": 1, "nanos": 0 });
        let pings = keepalive(json!({ "interval": second, "timeout": second })).unwrap();
        assert_eq!(pings.interval, Some(Duration::from_secs(1)));
        assert_eq!((pings.timeout, pings.interval_jitter_percent), (Duration::from_secs(1), 15));
        let jitter = json!({ "timeout": second, "interval_jitter": { "value": 0.6 } });
        assert_eq!(keepalive(jitter).unwrap().interval_jitter_percent, 1);
    }

    #[test]
    fn custom_settings_are_sent_unless_they_have_a_field() {
        let options = good(json!({ "custom_settings_parameters": [
            { "identifier": 10, "value": 5 }, { "identifier": 2, "value": 0 },
            { "identifier": 3, "value": 9 }, { "identifier": 10, "value": 5 },
            { "identifier": 5, "value": 20_000 },
        ] }));
        assert_eq!(*options.custom_settings, [(10, 5), (2, 0), (5, 20_000)]);
        assert_eq!(options.max_frame_size, 20_000);
        assert_eq!(options.max_concurrent_streams, 9);
    }

    #[test]
    fn settings_that_contradict_each_other_are_rejected() {
        let custom = |identifier: u32, value: u32| {
            json!({ "max_concurrent_streams": 1, "custom_settings_parameters": [
                { "identifier": identifier, "value": value } ] })
        };
        let at = "custom_settings_parameters[0]";
        for (schema, expected) in [
            (custom(2, 1), format!("{at}: Corvoy does not push")),
            (
                custom(3, 1),
                format!("{at}: the parameter is set by its field, `max_concurrent_streams`"),
            ),
            (custom(4, 1 << 31), format!("{at}: a window has at most 2147483647 bytes")),
            (custom(8, 1), format!("{at}: the parameter is set by its field, `allow_connect`")),
            (custom(5, 100), format!("{at}: the largest frame has 16384 to 16777215 bytes")),
            (
                json!({ "custom_settings_parameters": [
                    { "identifier": 10, "value": 1 }, { "identifier": 10, "value": 2 } ] }),
                "custom_settings_parameters[1]: SETTINGS parameter 10 has two values".to_owned(),
            ),
        ] {
            assert_eq!(compiled(schema).1, [expected]);
        }
    }

    #[test]
    fn what_is_not_implemented_is_rejected_by_name() {
        let (_, problems) = compiled(json!({ "allow_metadata": true }));
        assert_eq!(problems, ["allow_metadata: allow_metadata is not implemented yet"]);
    }

    fn good(schema: Value) -> Options {
        let (options, problems) = compiled(schema);
        assert_eq!(problems, [""; 0]);
        options
    }

    fn compiled(schema: Value) -> (Options, Vec<String>) {
        let schema = serde_json::from_value(schema).unwrap();
        let mut problems = Problems::default();
        let options = http2(&schema, None, &Path::root(), &mut problems);
        let problem = |it: &config::Problem| format!("{}: {}", it.path, it.message);
        (options, problems.iter().map(problem).collect())
    }
}
