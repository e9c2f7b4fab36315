// A module that measures 230 V and, while the relay at pin 5 is closed (low), 720 W.
#pragma once
#include "Arduino.h"

class PZEM004Tv30 {
  double joules = 0;
  std::chrono::steady_clock::time_point then = std::chrono::steady_clock::now();
  bool is_closed() const { return digitalRead(5) == LOW; }

public:
  PZEM004Tv30(HardwareSerial &, int, int) {}
  float voltage() const { return 230.0F; }
  float current() const { return is_closed() ? 3.13F : 0.0F; }
  float power() const { return is_closed() ? 720.0F : 0.0F; }
  float energy() {
    auto now = std::chrono::steady_clock::now();
    joules += power() * std::chrono::duration<double>(now - then).count();
    then = now;
    return static_cast<float>(1.2 + joules / 3.6e6);
  }
};
