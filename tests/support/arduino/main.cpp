// As an Arduino core's main: set up once, then loop for ever (the stand-in's delay ends it).
#include "Arduino.h"

int main()
{
    setup();
    for (;;) {
        loop();
    }
}
