// The interface of "MQTT" by Joël Gähwiler over libmosquitto: a publish with QoS 1 returns when it is acknowledged or after a
// second; what fails ends the connection; messages arrive in loop() or while a publish waits.
#pragma once
#include <mosquitto.h>

#include "WiFi.h"

class MQTTClient {
  mosquitto *client = nullptr;
  const char *host = "";
  void (*heard)(String &, String &) = nullptr;
  bool is_connected = false;
  int acknowledged = -1;

  static void on_connect(mosquitto *, void *self, int code) { static_cast<MQTTClient *>(self)->is_connected = code == 0; }
  static void on_disconnect(mosquitto *, void *self, int) { static_cast<MQTTClient *>(self)->is_connected = false; }
  static void on_done(mosquitto *, void *self, int id) { static_cast<MQTTClient *>(self)->acknowledged = id; }
  static void on_granted(mosquitto *, void *self, int id, int, const int *) { on_done(nullptr, self, id); }
  static void on_message(mosquitto *, void *self, const mosquitto_message *message) {
    String topic(message->topic), payload(std::string(static_cast<const char *>(message->payload), message->payloadlen));
    if (auto *hear = static_cast<MQTTClient *>(self)->heard) hear(topic, payload);
  }

  template <typename Until> bool wait(Until until) {
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (!until() && std::chrono::steady_clock::now() < end) {
      if (mosquitto_loop(client, 20, 1) != MOSQ_ERR_SUCCESS) return is_connected = false;
    }
    if (!until()) {
      mosquitto_disconnect(client);
      return is_connected = false;
    }
    return true;
  }

public:
  explicit MQTTClient(int) { mosquitto_lib_init(); }
  void begin(const char *server, WiFiClient &) { host = server; }
  void onMessage(void (*callback)(String &, String &)) { heard = callback; }
  bool connected() const { return is_connected; }
  void loop() {
    if (client && is_connected && mosquitto_loop(client, 0, 1) != MOSQ_ERR_SUCCESS) is_connected = false;
  }
  bool connect(const char *id, const char *name, const char *password) {
    if (client) mosquitto_destroy(client);
    client = mosquitto_new(id, true, this);
    mosquitto_username_pw_set(client, name, password);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_disconnect_callback_set(client, on_disconnect);
    mosquitto_publish_callback_set(client, on_done);
    mosquitto_subscribe_callback_set(client, on_granted);
    mosquitto_message_callback_set(client, on_message);
    const char *port = std::getenv("PORT");
    if (mosquitto_connect(client, host, port ? std::atoi(port) : 1883, 10) != MOSQ_ERR_SUCCESS) return false;
    return wait([this] { return is_connected; });
  }
  bool publish(const String &topic, const String &payload, bool retained, int qos) {
    int id = -2;
    if (!client || mosquitto_publish(client, &id, topic.c_str(), static_cast<int>(payload.length()), payload.c_str(), qos,
                                     retained) != MOSQ_ERR_SUCCESS)
      return false;
    return wait([&] { return acknowledged == id; });
  }
  bool subscribe(const String &filter, int qos) {
    int id = -2;
    if (!client || mosquitto_subscribe(client, &id, filter.c_str(), qos) != MOSQ_ERR_SUCCESS) return false;
    return wait([&] { return acknowledged == id; });
  }
};
