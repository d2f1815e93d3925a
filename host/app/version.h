/* version - moonbus's own; the build states it. */
#ifndef MOONBUS_APP_VERSION_H
#define MOONBUS_APP_VERSION_H

#ifndef MOONBUS_VERSION
#define MOONBUS_VERSION "0.0.0"
#endif

#endif
