/* What our examples need of Arduino's API, for a PC: tests compile, link and run sketches with it. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct StandInSerial {
    void begin(unsigned long) {}
    void print(const char *text) { fputs(text, stdout); }
    void print(char c) { putchar(c); }
    void print(int value) { printf("%d", value); }
    void print(unsigned value) { printf("%u", value); }
    void print(unsigned long value) { printf("%lu", value); }
    void print(double value, int digits) { printf("%.*f", digits, value); }
    void println() { putchar('\n'); }
    template <typename T> void println(T value)
    {
        print(value);
        println();
    }
};
inline StandInSerial Serial;

inline unsigned long micros() { return 0; }
inline void delay(unsigned long) { exit(0); } /* after the first round */

void setup();
void loop();

#endif
