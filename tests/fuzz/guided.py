"""A reader whose fault lies behind four lines, each of which needs one byte to be right."""


def read(data: bytes) -> None:
    if data[0] == 0x11:
        found = 1
        if data[1] == 0x22:
            found += 1
            if data[2] == 0x33:
                found += 1
                if data[3] == 0x44:
                    found //= 0
