/* One window through the shipped anomaly model, as bytes both ways, with libcurl.
 *
 *     cc -o infer examples/infer.c -lcurl && ./infer /run/edge-agent/agent.sock
 */

#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct answer {
    char bytes[4096];
    size_t size;
};

static size_t take(char *data, size_t unit, size_t count, void *into) {
    struct answer *answer = into;
    size_t size = unit * count;
    if (size > sizeof answer->bytes - answer->size)
        return 0; /* libcurl ends the transfer with an error */
    memcpy(answer->bytes + answer->size, data, size);
    answer->size += size;
    return size;
}

/* The answer begins with JSON; this header says how long it is. */
static size_t take_header(char *line, size_t unit, size_t count, void *into) {
    static const char name[] = "Inference-Header-Content-Length: ";
    if (unit * count > sizeof name && strncmp(line, name, sizeof name - 1) == 0)
        *(size_t *)into = strtoul(line + sizeof name - 1, NULL, 10);
    return unit * count;
}

int main(int argc, char **argv) {
    int8_t window[3 * 32];
    struct answer answer = {.size = 0};
    size_t json = 0;
    long status = 0;
    CURL *curl = curl_easy_init(); /* keep it: a connection serves any number of requests */
    if (argc != 2 || curl == NULL)
        return 2;
    for (size_t i = 0; i < sizeof window; i++)
        window[i] = (int8_t)i;

    /* 0 bytes of JSON: the body is the model's only input. */
    struct curl_slist *headers = curl_slist_append(NULL, "Inference-Header-Content-Length: 0");
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, argv[1]);
    curl_easy_setopt(curl, CURLOPT_URL, "http://localhost/v2/models/pump-anomaly/infer");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, (char *)window);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)sizeof window);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &json);

    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK || status != 200 || answer.size < json + 2) {
        const char *why = code == CURLE_OK ? "refused" : curl_easy_strerror(code);
        fprintf(stderr, "%s: %.*s\n", why, (int)answer.size, answer.bytes);
        return 1;
    }
    const int8_t *evidence = (const int8_t *)answer.bytes + json;
    printf("evidence %d %d\n", evidence[0], evidence[1]);
    return 0;
}
