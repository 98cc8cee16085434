/* tally: counts lines, words and bytes of a file, like wc, in the order "lines words bytes". */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct tally {
    unsigned long lines, words, bytes;
};

static int count(FILE *in, struct tally *t)
{
    int c, in_word = 0;

    memset(t, 0, sizeof *t);
    while ((c = getc(in)) != EOF) {
        t->bytes++;
        if (c == '\n')
            t->lines++;
        if (isspace(c)) {
            in_word = 0;
        } else if (!in_word) {
            in_word = 1;
            t->words++;
        }
    }
    return ferror(in) ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct tally t;
    FILE *in;

    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    in = fopen(argv[1], "rb");
    if (in == NULL || count(in, &t) != 0) {
        perror(argv[1]);
        return 1;
    }
    fclose(in);
    printf("%lu %lu %lu\n", t.lines, t.words, t.bytes);
    return 0;
}
