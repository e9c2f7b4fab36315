// A network that is always there.
#pragma once
#include "Arduino.h"

constexpr int WL_CONNECTED = 3;
struct WiFiClass {
  void begin(const char *, const char *) {}
  int status() const { return WL_CONNECTED; }
};
inline WiFiClass WiFi;
struct WiFiClient {};
