//! Talks to meters: MQTT and HTTP in, durable acknowledgement, commands out.
