// Runs the sketch until it is killed.
#include "Arduino.h"

int main() {
  setup();
  while (true) loop();
}
