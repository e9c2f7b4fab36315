// What the sketch of docs/howto/json-meter.md uses of an ESP32's Arduino core, on a computer: no pins, a String, a clock.
#pragma once
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>

constexpr int OUTPUT = 3, LOW = 0, HIGH = 1;
inline int pins[40];
inline void pinMode(int, int) {}
inline void digitalWrite(int pin, int level) { pins[pin] = level; }
inline int digitalRead(int pin) { return pins[pin]; }
inline void delay(unsigned long ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }
inline void configTime(long, int, const char *) {}
using std::isnan;

class String {
  std::string text;

public:
  String(const char *from = "") : text(from) {}
  String(const std::string &from) : text(from) {}
  explicit String(int value) : text(std::to_string(value)) {}
  explicit String(unsigned int value) : text(std::to_string(value)) {}
  explicit String(long value) : text(std::to_string(value)) {}
  explicit String(unsigned long value) : text(std::to_string(value)) {}
  String &operator+=(const String &more) {
    text += more.text;
    return *this;
  }
  friend String operator+(const String &a, const String &b) { return String(a.text + b.text); }
  bool operator==(const char *other) const { return text == other; }
  int indexOf(const String &part) const {
    auto at = text.find(part.text);
    return at == std::string::npos ? -1 : static_cast<int>(at);
  }
  const char *c_str() const { return text.c_str(); }
  unsigned int length() const { return static_cast<unsigned int>(text.size()); }
};

struct HardwareSerial {};
inline HardwareSerial Serial2;
void setup();
void loop();
