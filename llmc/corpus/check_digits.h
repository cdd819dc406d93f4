/*
check_digits.h: numbers of persons that prove themselves by a check digit. Each function takes capital letters and
digits without blanks, as many as it names.

    check_iban("DE...", n)      ISO 13616: the country's length, mod 97 == 1
    check_11_10(digits, n)      ISO 7064 mod 11,10: the last of n digits; of USt-IdNr. (9) and Steuer-ID (11)
    check_tax_id(11 digits)     Steuer-ID: among the first ten one digit stands two or three times, not three in a row,
                                and no other more than once (§ 139b AO, BZSt)
    check_pension(12)           Sozialversicherungsnummer: area, date of birth, letter, serial number (VKVV)
    check_health(10)            Krankenversichertennummer: letter, 9 digits (GKV-Spitzenverband)
    check_document(p, n)        ICAO 9303: weights 7 3 1, the last of n is the check digit; Personalausweis, Reisepass

One number in ten passes a check digit by chance, one in 97 that of an IBAN, one of eleven digits in 260 the tax rule.
*/
#ifndef LLMC_CHECK_DIGITS_H
#define LLMC_CHECK_DIGITS_H

#include "../base/common.h"

// clang-format off
#define CHECK_IBAN_LENGTHS \
    "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18" \
    "FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27" \
    "MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25" \
    "SV28TL23TN24TR26UA29VA22VG24XK20YE30" // SWIFT's registry
// clang-format on
#define CHECK_IBAN_MOST 34

static inline bool check_is_digit(int c) { return c >= '0' && c <= '9'; }
static inline bool check_is_capital(int c) { return c >= 'A' && c <= 'Z'; }

// 0: no country that has IBANs.
static inline int check_iban_length(const char *country) {
    for (const char *row = CHECK_IBAN_LENGTHS; *row; row += 4)
        if (row[0] == country[0] && row[1] == country[1]) return 10 * (row[2] - '0') + row[3] - '0';
    return 0;
}

static inline bool check_iban(const char *iban, int n) {
    uint64_t rest = 0;
    if (n < 5 || check_iban_length(iban) != n || !check_is_digit(iban[2]) || !check_is_digit(iban[3])) return false;
    for (int i = 4; i < n + 4; i++) {
        char c = iban[i < n ? i : i - n];
        if (rest > 1000000000000000) rest %= 97;
        if (check_is_digit(c)) rest = rest * 10 + (uint64_t)(c - '0');
        else if (check_is_capital(c)) rest = rest * 100 + (uint64_t)(c - 'A' + 10);
        else return false;
    }
    return rest % 97 == 1;
}

static inline bool check_11_10(const char *digits, int n) {
    int product = 10;
    for (int i = 0; i < n - 1; i++) {
        int sum = (digits[i] - '0' + product) % 10;
        product = 2 * (sum ? sum : 10) % 11;
    }
    return (11 - product) % 10 == digits[n - 1] - '0';
}

static inline bool check_tax_id(const char *digits) {
    int count[10] = {0}, repeated = 0;
    if (digits[0] == '0') return false;
    for (int i = 0; i < 10; i++) {
        count[digits[i] - '0']++;
        if (i >= 2 && digits[i] == digits[i - 1] && digits[i] == digits[i - 2]) return false;
    }
    for (int d = 0; d < 10; d++) {
        if (count[d] > 3) return false;
        repeated += count[d] > 1;
    }
    return repeated == 1 && check_11_10(digits, 11);
}

// Sum of the cross sums of digits times weights.
static inline int check_cross_sums(const char *digits, const char *weights, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) {
        int product = (digits[i] - '0') * (weights[i] - '0');
        sum += product / 10 + product % 10;
    }
    return sum;
}

// aaDDMMYYLssC; 50 is added to days where a number was given twice.
static inline bool check_pension(const char *p) {
    char digits[12];
    int area = 10 * (p[0] - '0') + p[1] - '0', day = 10 * (p[2] - '0') + p[3] - '0',
        month = 10 * (p[4] - '0') + p[5] - '0';
    if (area < 2 || area > 89 || day < 1 || (day > 31 && day < 51) || day > 81 || month < 1 || month > 12) return false;
    memcpy(digits, p, 8);
    digits[8] = (char)('0' + (p[8] - 'A' + 1) / 10);
    digits[9] = (char)('0' + (p[8] - 'A' + 1) % 10);
    memcpy(digits + 10, p + 9, 2);
    return check_cross_sums(digits, "212571212121", 12) % 10 == p[11] - '0';
}

static inline bool check_health(const char *p) {
    char digits[10];
    digits[0] = (char)('0' + (p[0] - 'A' + 1) / 10);
    digits[1] = (char)('0' + (p[0] - 'A' + 1) % 10);
    memcpy(digits + 2, p + 1, 8);
    return check_cross_sums(digits, "1212121212", 10) % 10 == p[9] - '0';
}

static inline bool check_document(const char *p, int n) {
    int sum = 0;
    for (int i = 0; i < n - 1; i++)
        sum += (check_is_digit(p[i]) ? p[i] - '0' : p[i] - 'A' + 10) * (i % 3 == 0 ? 7 : i % 3 == 1 ? 3 : 1);
    return sum % 10 == p[n - 1] - '0';
}

#endif
